"""Access to a guest's linear memory: bounds-checked and copying. No view of the memory leaves this module.

The base address is constant for the life of the instance (``memory_may_move`` is off), and a memory never shrinks. So a
view of the size last seen is valid for every range within it, and only a range beyond it requires asking the engine.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.engine.call.door import Door
from aegis.engine.native.library import lib, view
from aegis.errors import SandboxStateError
from aegis.support.lean import Any
from aegis.values import MemoryFault

__all__ = ["LinearMemory"]

Handle = tuple[Any, Any]
"""A store's context and the address of a ``wasmtime_memory_t`` in it, as ctypes arguments."""

_data, _size = lib.wasmtime_memory_data, lib.wasmtime_memory_data_size
_EMPTY = memoryview(bytearray())  # writable, so that writing zero bytes succeeds


class LinearMemory:
    """The memory of a live instance; offsets and lengths are in bytes.

    It implements :class:`aegis.values.GuestMemory`. With a ``door``, copies are charged to ``host_bytes``, and
    ``value_bytes`` limits each read. Without one, for access by the embedder, neither limit applies.
    """

    _view: memoryview | None = _EMPTY
    _find: Callable[[], Handle] | None = None
    _handle: Handle | None = None

    def __init__(self, door: Door | None) -> None:
        self._door = door

    def attach(self, find: Callable[[], Handle]) -> None:
        """Use the memory whose handle ``find`` returns; it is called on the first access."""
        self._find = find
        self._view = _EMPTY

    def detach(self) -> None:
        """Reject every later access: the store is about to be deleted."""
        self._view = self._find = self._handle = None

    def size(self) -> int:
        """Return the current size in bytes; 0 if the guest exports no memory."""
        if self._view is None:
            raise SandboxStateError("the sandbox is closed; its memory is gone", state="closed")
        if self._handle is None:
            if self._find is None:
                return 0
            self._handle = self._find()
        size: int = _size(*self._handle)
        return size

    def _refresh(self, offset: int, length: int) -> memoryview:
        """Return a view of the whole memory at its current size; raise ``MemoryFault`` if the range is outside."""
        size = self.size()
        if offset < 0 or length < 0 or offset + length > size:
            raise MemoryFault(f"{length} bytes at {offset} do not lie within the {size} bytes of memory")
        if size and self._handle is not None:
            self._view = view(_data(*self._handle), size)
        return self._view or _EMPTY

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes at ``offset``."""
        memory, end, door = self._view, offset + length, self._door
        if memory is None or offset < 0 or length < 0 or end > len(memory):
            memory = self._refresh(offset, length)
        if door is not None:
            if length > door.value_limit:
                door.value_left = door.value_limit
                door.hold(length)
            door.bytes_left = left = door.bytes_left - length  # as Door.charge does
            if left < door.check_below:
                door.check()
            door.bytes_in += length
        return memory[offset:end].tobytes()

    def take(self, length: int, then: bytes) -> bytes:
        """Return a copy of the first ``length`` bytes, and write ``then`` over the beginning; charge nothing."""
        memory, most = self._view, max(length, len(then))
        if memory is None or most > len(memory):
            memory = self._refresh(0, most)
        found = memory[:length].tobytes()
        memory[: len(then)] = then
        return found

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to ``offset``."""
        length = len(data)
        memory, end, door = self._view, offset + length, self._door
        if memory is None or offset < 0 or end > len(memory):
            memory = self._refresh(offset, length)
        if door is not None:
            door.bytes_left = left = door.bytes_left - length  # as Door.charge does
            if left < door.check_below:
                door.check()
            door.bytes_out += length
        memory[offset:end] = data
