"""Isolation: a sandbox whose guest runs in a process of its own, the worker, confined by the operating system.

parent      the embedder's process: creates workers, opens grants, calls host functions, checks all that a worker sends
worker      the worker process, and the fork server that creates workers
protocol    the messages between them
confine     the layers of confinement that a worker applies to itself
"""

from __future__ import annotations
