"""Workspaces: the native buffers of stores, which closed stores leave to new ones."""

from __future__ import annotations

import ctypes

from aegis.engine.native.library import pointer_into

__all__ = ["WORKSPACES_KEPT", "Workspace", "workspaces"]

WORKSPACES_KEPT = 64


class Workspace:
    """The native buffer of one store: its instance, a trap pointer, and its exported memory."""

    __slots__ = ("buffer", "extern", "instance", "item", "trap", "trap_pointer")

    def __init__(self) -> None:
        self.buffer = (ctypes.c_char * 128)()
        self.instance = pointer_into(self.buffer)
        self.trap_pointer = pointer_into(self.buffer, 16)
        self.trap = memoryview(self.buffer).cast("B")[16:24].cast("Q")
        self.extern, self.item = pointer_into(self.buffer, 32), pointer_into(self.buffer, 40)


workspaces: list[Workspace] = []
"""Free workspaces, at most ``WORKSPACES_KEPT``. They contain the instances of closed stores."""
