"""A guest's memory and globals for the embedder, and the calling guest for a host function.

Each access goes through the run, so none of these objects keeps a guest alive or reaches one that was replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from operator import index

from aegis.engine.call.core_values import coerce, scalar_types
from aegis.errors import CallError, SandboxStateError
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.text import printable, similar_names
from aegis.values import GuestMemory, MemoryFault
from aegis.wasm.binary import GlobalType

if TYPE_CHECKING:
    from aegis.sandbox.backend import Run

__all__ = ["Caller", "Globals", "Memory"]


class Memory:
    """The exported linear memory of a guest. Offsets and lengths are in bytes, from 0.

    Reads and writes copy: a view would point into memory that the guest may move or free. All methods raise
    :class:`~aegis.errors.SandboxStateError` while a call is under way (a host function uses :class:`aegis.Caller`) and
    for a closed sandbox. The memory of a poisoned sandbox can still be read::

        sandbox.memory.write(1024, b"hello")
        sandbox.call("upper", 1024, 5)
        sandbox.memory.read(1024, 5)  # b"HELLO"
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def size(self) -> int:
        """The present size in bytes, 0 if the module exports no memory."""
        with self._run.exclusive() as memory:
            return memory.size()

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes at ``offset``.

        Raise ``ValueError`` if the range is not inside the memory.
        """
        with self._run.exclusive() as memory:
            try:
                return memory.read(offset, length)
            except MemoryFault as fault:
                raise ValueError(str(fault)) from None

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` into the memory at ``offset``.

        Raise ``ValueError`` if the range is not inside the memory; nothing is written then.
        """
        raw = memoryview(data).cast("B")
        with self._run.exclusive() as memory:
            try:
                memory.write(offset, raw)
            except MemoryFault as fault:
                raise ValueError(str(fault)) from None


class Globals(MutableMapping[str, Any]):
    """The exported globals of a core module: a mapping of names to numbers, int for i32 and i64, float for f32 and f64.

    Integers are read as signed. A mutable global can be set to any number that its type can hold; none can be deleted.
    Raise ``KeyError`` for an unknown name; :class:`~aegis.errors.CallError` for an immutable global, a value that does
    not fit the type, and types that Python cannot hold (v128, references); :class:`~aegis.errors.SandboxStateError`
    while a call is under way::

        sandbox.globals["counter"] = 5
        dict(sandbox.globals)  # {"counter": 5}
    """

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
        raise CallError("globals of a guest cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [e.name for e in self._run.loaded().exports if e.kind == "global"]

    def _type(self, name: str) -> GlobalType:
        export = self._run.loaded().export(name)
        if export is None or not isinstance(export.type, GlobalType):
            hint = "".join(f": did you mean {n}?" for n in similar_names(str(name), self._names(), 1))
            raise KeyError(f"the module exports no global {printable(str(name))!r}{hint}")
        if export.type.value not in scalar_types:
            raise CallError(f"the global {printable(name)!r} is a {export.type.value}, which Python cannot hold")
        return export.type


class Caller:
    """The guest that called a host function, its first argument if :func:`aegis.with_caller` marks the function.

    It is valid until that host function returns, on the same thread. Later, and on other threads, its methods raise
    :class:`~aegis.errors.SandboxStateError`. Bytes that it copies count towards the limit ``host_bytes``. Offsets and
    lengths are those that the guest passed: an i32 below 0 counts as the unsigned number with the same bits. If a host
    function does not catch :class:`aegis.MemoryFault`, the guest traps::

        @aegis.with_caller
        def log(caller, offset, length):
            print(caller.read_text(offset, length))

        runtime.sandbox(module, imports={"env": {"log": log}})
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes of the guest's memory at ``offset``.

        Raise :class:`aegis.MemoryFault` if the range is not inside the memory, and
        :class:`~aegis.errors.QuotaExceeded` for more bytes than ``value_bytes`` or than ``host_bytes`` leaves.
        """
        return self._memory().read(_unsigned(offset), _unsigned(length))

    def read_text(self, offset: int, length: int) -> str:
        """Return ``length`` bytes of the guest's memory at ``offset`` as UTF-8 text.

        Raise as :meth:`read` does, and :class:`aegis.MemoryFault` for bytes that are not UTF-8.
        """
        data = self.read(offset, length)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            at = _unsigned(offset) + error.start
            raise MemoryFault(
                f"byte 0x{data[error.start]:02x} at {at:,} begins no character", code="invalid-utf-8"
            ) from None

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Copy ``data`` into the guest's memory at ``offset``. Raise as :meth:`read` does; nothing is written then."""
        self._memory().write(_unsigned(offset), memoryview(data).cast("B"))

    def memory_size(self) -> int:
        """Return the present size of the guest's memory in bytes, 0 if it exports none."""
        return self._memory().size()

    def call(self, name: str, *args: Any) -> Any:
        """Call an export of the same guest; return and raise as :meth:`aegis.Sandbox.call` does.

        The nested call shares the deadline and the fuel of the call under way.
        """
        return self._inside().call(name, *args)

    def remaining(self) -> float | None:
        """Return the seconds until the deadline of the call under way, ``None`` if it has none.

        Raise :class:`~aegis.errors.DeadlineExceeded` after the deadline, and :class:`~aegis.errors.Cancelled` if the
        call was cancelled.
        """
        return self._inside().door.remaining()

    def _memory(self) -> GuestMemory:
        memory = self._inside().memory
        assert memory is not None  # a guest that called a host function has imports
        return memory

    def _inside(self) -> Run:
        if not self._run.on_guest_stack():
            raise SandboxStateError(
                "this Caller is no longer valid: use it only inside the host function that got it, on the same thread",
                state="busy",
            )
        return self._run


def _unsigned(number: int) -> int:
    """Return an offset or length that the guest passed as i32, which host functions get as a signed number."""
    number = index(number)
    return number + (1 << 32) if -(1 << 31) <= number < 0 else number
