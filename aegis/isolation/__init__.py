"""The same sandbox, its guest in a process of its own.

wire        how parent and worker talk; encoding: what can be said at all
codec       WIT values by their types; faults: errors
setup       what a worker is told first
confine     what a process gives up for good: a layer of the operating system a module
zygote      the fork server; worker: what its children do; within, remote, closing: what they have
pool        workers as the parent sees them
code        the code of an artifact for workers, one sealed file a core module; compiling: having a worker make it
store       a sandbox's store whose guest is in a worker; tier: what makes it
"""

from __future__ import annotations
