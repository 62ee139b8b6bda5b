"""Buffers for core functions: bytes that lie in the guest's memory, put there through its own allocator.

Core WebAssembly has numbers alone, and a function that takes text takes an address and a length. Where a module exports
its memory and an allocator, two ``i32`` parameters in a row stand for one :class:`Buffer`, unless what is known of the
function contradicts: the second parameter has a name that is not a length's (from the module's name section, if it has
one), or the function, with all that it calls, never touches memory. ``buffers=False`` takes all of them for numbers.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from aegis.errors import CallError
from aegis.fuzz.values.bodies import Bodies
from aegis.fuzz.values.series import Octets
from aegis.text import printable
from aegis.values import FuncType

if TYPE_CHECKING:
    from aegis.engine.compile.artifact import Module
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["Buffer", "BufferShape", "Place", "is_buffer", "layout", "place", "read_buffer"]

_LENGTH = re.compile(r"(.*_)?(n|l|len|length|size|sz|count|cnt|num|bytes|nbytes|cap|capacity)\d*$|.*(len|length|size)$")


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that a core function is given as an address and a length."""

    data: bytes

    def __repr__(self) -> str:
        return repr(self.data)


def is_buffer(text: str) -> bool:
    """Tell whether a text is a buffer's: bytes as Python writes them."""
    return text[:2] in ("b'", 'b"')


def read_buffer(text: str) -> Buffer:
    """Return the buffer of a text; raise ``ValueError`` for any other."""
    try:
        data = literal_eval(text) if is_buffer(text) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        data = None
    if not isinstance(data, bytes):
        raise ValueError(f'{printable(text, 60)} is no buffer; write it as b"..."')
    return Buffer(data)


class BufferShape:
    """The shape of buffers: that of bytes."""

    def __init__(self) -> None:
        self.octets = Octets()

    def simplest(self) -> Buffer:
        return Buffer(b"")

    def random(self, rng: Random, size: int) -> Buffer:
        return Buffer(self.octets.random(rng, size))

    def mutate(self, rng: Random, value: Buffer) -> Buffer:
        return Buffer(self.octets.mutate(rng, value.data))

    def simpler(self, value: Buffer) -> Iterator[Buffer]:
        return map(Buffer, self.octets.simpler(value.data))

    def size(self, value: Buffer) -> int:
        return self.octets.size(value.data)


# -- which allocator -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Way:
    """One convention of allocators: its name, what it takes and the arguments for so many bytes."""

    name: str
    params: int
    arguments: Callable[[int], tuple[int, ...]]
    frees: tuple[str, ...] = ()
    """Exports that undo it, given the address, the address and the size, or those and the alignment."""


def _plain(size: int) -> tuple[int, ...]:
    return (size,)


def _canonical(size: int) -> tuple[int, ...]:
    return 0, 0, 1, size


_WAYS = (
    _Way("malloc", 1, _plain, ("free",)),
    _Way("alloc", 1, _plain, ("dealloc", "free")),
    _Way("allocate", 1, _plain, ("deallocate", "dealloc", "free")),
    _Way("cabi_realloc", 4, _canonical),
    _Way("realloc", 4, _canonical),
    _Way("__wbindgen_malloc", 2, lambda size: (size, 1), ("__wbindgen_free",)),
    _Way("__wbindgen_malloc", 1, _plain, ("__wbindgen_free",)),
    _Way("__new", 2, lambda size: (size, 1)),  # AssemblyScript: 1 is an ArrayBuffer
)


class Place:
    """Where a module takes buffers: its allocator, if it has one of a signature that fits, and an exported memory."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._way = None if module.memory_name is None else next((w for w in _WAYS if _fits(module, w)), None)
        self._free = None if self._way is None else _freeing(module, self._way)
        self.bodies = Bodies(module)

    def __bool__(self) -> bool:
        return self._way is not None

    @property
    def own(self) -> frozenset[str]:
        """The exports that it needs for itself."""
        pair = (None if self._way is None else self._way.name, self._free)
        return frozenset(name for name in pair if name is not None)

    @contextmanager
    def placed(self, sandbox: Sandbox, arguments: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Put the buffers among ``arguments`` into the guest, and give raw arguments; free them at the end.

        Where nothing frees, they stay. Raise :class:`~aegis.errors.CallError` where the guest has no room, and what
        the allocator ends with.
        """
        held: list[tuple[int, int]] = []
        yield tuple(self.raw(sandbox, arguments, held))
        if self._free is not None and sandbox.state == "ready":
            for address, size in held:
                signature = self.module.signature(self._free)
                sandbox.call(self._free, *(address, size, 1)[: len(signature.params)])

    def raw(self, sandbox: Sandbox, arguments: Sequence[Any], held: list[tuple[int, int]]) -> Iterator[Any]:
        """Yield raw arguments, placing buffers, whose addresses and sizes go into ``held``."""
        if self._way is None:
            raise CallError("the module has no allocator and memory to place buffers with")
        for argument in arguments:
            if isinstance(argument, Buffer):
                held.append(self._allocate(sandbox, len(argument.data)))
                _write(sandbox, held[-1][0], argument.data)
                yield from (held[-1][0], len(argument.data))
            else:
                yield argument

    def _allocate(self, sandbox: Sandbox, length: int) -> tuple[int, int]:
        assert self._way is not None
        size = max(1, length)
        address = sandbox.call(self._way.name, *self._way.arguments(size)) & 0xFFFF_FFFF
        if address == 0:
            raise CallError(f"the guest's {self._way.name} has no room for {size} bytes")
        return address, size


def place(sandbox: Sandbox, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Put the buffers among ``arguments`` into a sandbox's guest for good, and return the raw arguments.

    Errors as for :meth:`Place.placed`, which frees them afterwards.
    """
    module: Any = sandbox.module
    return tuple(Place(module).raw(sandbox, arguments, []))


def _write(sandbox: Sandbox, address: int, data: bytes) -> None:
    try:
        sandbox.memory.write(address, data)
    except ValueError as error:
        raise CallError(f"the guest's allocator gave an address that it does not have: {error}") from None


def _fits(module: Module, way: _Way) -> bool:
    return module.signature(way.name) == FuncType(("i32",) * way.params, ("i32",))


def _freeing(module: Module, way: _Way) -> str | None:
    fitting = {FuncType(("i32",) * count) for count in (1, 2, 3)}
    return next((n for n in way.frees if module.export(n) is not None and module.signature(n) in fitting), None)


# -- which parameters ----------------------------------------------------------------------------------


def layout(module: Module, name: str, where: Place | None = None) -> list[str]:
    """Return what an exported function takes: its value types, with ``buffer`` in place of two that are one."""
    kinds = list(module.signature(name).params)
    where = where or Place(module)
    if not where or name in where.own or not where.bodies.touches_memory(name):
        return kinds
    names = where.bodies.parameter_names(name)
    found: list[str] = []
    at = 0
    while at < len(kinds):
        pair = kinds[at : at + 2] == ["i32", "i32"] and _LENGTH.match(names.get(at + 1, "len").lower()) is not None
        found.append("buffer" if pair else kinds[at])
        at += 2 if pair else 1
    return found
