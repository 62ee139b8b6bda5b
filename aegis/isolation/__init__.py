"""The same sandbox, its guest in a process of its own.

wire        what can be said between parent and worker, and how
codec       WIT values by their types; faults: errors; worlds: what a component asks for and offers
setup       what a worker is told first
confine     what a process gives up for good: a layer of the operating system a module
zygote      the fork server; worker: what its children do; within, remote, closing: what they have
pool        workers as the parent sees them
compiling   compiling in a worker
store       a sandbox's store whose guest is in a worker; tier: what makes it
"""

from __future__ import annotations
