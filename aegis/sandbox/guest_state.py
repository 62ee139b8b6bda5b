"""What an embedder holds of a guest's state: its memory, its globals, and the caller in a host function.

Each goes through the sandbox at every use, so nothing here outlives what it refers to.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from aegis.engine.call.core_values import coerce, scalar_types
from aegis.errors import CallError, SandboxStateError
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import printable, similar_names
from aegis.values import MemoryFault
from aegis.wasm.binary import GlobalType

if TYPE_CHECKING:
    from aegis.engine.store.memory import LinearMemory
    from aegis.sandbox.run import Run

__all__ = ["Caller", "Globals", "Memory"]


class Memory:
    """The guest's linear memory: copies in and out, never a view. Offsets and lengths in bytes."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def size(self) -> int:
        """The memory's present size in bytes; 0 when the module exports none."""
        with self._run.exclusive() as memory:
            return memory.size()

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; raise ``ValueError`` when they do not lie inside."""
        with self._run.exclusive() as memory:
            try:
                return memory.read(offset, length)
            except MemoryFault as fault:
                raise ValueError(str(fault)) from None

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` to ``offset``; raise ``ValueError`` when it does not fit inside."""
        raw = memoryview(data).cast("B")
        with self._run.exclusive() as memory:
            try:
                memory.write(offset, raw)
            except MemoryFault as fault:
                raise ValueError(str(fault)) from None


class Globals(MutableMapping[str, Any]):
    """The exported globals of a guest by name; an item is set if it is mutable and the value fits."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, name: str) -> int | float:
        kind = self._type(name)
        with self._run.held() as store:
            return store.global_get(name, kind)

    def __setitem__(self, name: str, value: int | float) -> None:
        kind = self._type(name)
        if not kind.mutable:
            raise CallError(f"the global {printable(name)!r} is immutable")
        number = coerce(kind.value, value, f"the global {printable(name)!r}")
        with self._run.held() as store:
            store.global_set(name, kind, number)

    def __delitem__(self, name: str) -> None:
        raise CallError("a guest's globals cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [e.name for e in self._run.loaded().exports if e.kind == "global"]

    def _type(self, name: str) -> GlobalType:
        export = self._run.loaded().export(name)
        if export is None or not isinstance(export.type, GlobalType):
            hint = "".join(f"; did you mean {n}?" for n in similar_names(str(name), self._names(), 1))
            raise KeyError(f"the module exports no global {printable(str(name))!r}{hint}")
        if export.type.value not in scalar_types:
            raise CallError(f"the global {printable(name)!r} is a {export.type.value}, which Python cannot hold")
        return export.type


class Caller:
    """The guest that called a host function marked with :func:`aegis.with_caller`.

    It is good for that call only, on its thread; elsewhere it raises
    :class:`~aegis.errors.SandboxStateError`.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes of the guest's memory; charged to ``host_bytes``.

        Raise :class:`~aegis.values.MemoryFault` when they do not lie inside, and
        :class:`~aegis.errors.QuotaExceeded` when they are more than ``value_bytes``.
        """
        return self._memory().read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` into the guest's memory; charged to ``host_bytes``."""
        self._memory().write(offset, memoryview(data).cast("B"))

    def memory_size(self) -> int:
        """Return the size of the guest's memory in bytes."""
        return self._memory().size()

    def call(self, name: str, *args: Any) -> Any:
        """Call an export of the same guest; it shares the deadline and the fuel of the call under way."""
        return self._inside().call(name, *args)

    def remaining(self) -> float | None:
        """Seconds to the deadline of the call under way; raise when it has passed."""
        return self._inside().door.remaining()

    def _memory(self) -> LinearMemory:
        memory = self._inside().memory
        assert memory is not None  # a guest that called a host function has imports
        return memory

    def _inside(self) -> Run:
        if not self._run.on_guest_stack():
            raise SandboxStateError("a caller is good only inside the host function that got it", state="busy")
        return self._run
