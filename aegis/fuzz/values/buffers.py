"""Buffers for core functions: bytes in the guest's memory, allocated by the guest's own allocator.

Core WebAssembly has only numbers, so a function that takes a string takes an address and a length. If a module exports
its memory and an allocator, two consecutive ``i32`` parameters are treated as one :class:`Buffer`, with two exceptions:
the name section gives the second parameter a name that does not look like a length, or the function and its callees
never access memory. ``buffers=False`` treats all parameters as numbers.
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
from aegis.fuzz.values.sequences import Octets
from aegis.text import printable
from aegis.values import FuncType

if TYPE_CHECKING:
    from aegis.engine.compile.artifact import Module
    from aegis.fuzz.dictionary import Dictionary
    from aegis.sandbox.sandbox import Sandbox

__all__ = ["Buffer", "BufferShape", "GuestAllocator", "is_buffer", "layout", "place_buffers", "read_buffer"]

_LENGTH = re.compile(r"(.*_)?(n|l|len|length|size|sz|count|cnt|num|bytes|nbytes|cap|capacity)\d*$|.*(len|length|size)$")


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are passed to a core function as an address and a length."""

    data: bytes

    def __repr__(self) -> str:
        return repr(self.data)


def is_buffer(text: str) -> bool:
    """Return whether a text is written like a buffer: a Python bytes literal."""
    return text[:2] in ("b'", 'b"')


def read_buffer(text: str) -> Buffer:
    """Parse a buffer from a Python bytes literal. Raise ``ValueError`` for anything else."""
    try:
        data = literal_eval(text) if is_buffer(text) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        data = None
    if not isinstance(data, bytes):
        raise ValueError(f'invalid buffer {printable(text, 60)}: write it as b"..."')
    return Buffer(data)


class BufferShape:
    """The shape of buffers, which delegates to the shape of bytes."""

    def __init__(self, dictionary: Dictionary | None = None) -> None:
        self.octets = Octets(dictionary)

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


# -- allocators ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Convention:
    """An allocator convention: the export's name, its number of parameters, and its arguments for a size in bytes."""

    name: str
    params: int
    arguments: Callable[[int], tuple[int, ...]]
    frees: tuple[str, ...] = ()
    """Exports that free the memory. They take the address; the address and size; or address, size and alignment."""


def _plain(size: int) -> tuple[int, ...]:
    return (size,)


def _canonical(size: int) -> tuple[int, ...]:
    return 0, 0, 1, size


_CONVENTIONS = (
    _Convention("malloc", 1, _plain, ("free",)),
    _Convention("alloc", 1, _plain, ("dealloc", "free")),
    _Convention("allocate", 1, _plain, ("deallocate", "dealloc", "free")),
    _Convention("cabi_realloc", 4, _canonical),
    _Convention("realloc", 4, _canonical),
    _Convention("__wbindgen_malloc", 2, lambda size: (size, 1), ("__wbindgen_free",)),
    _Convention("__wbindgen_malloc", 1, _plain, ("__wbindgen_free",)),
    _Convention("__new", 2, lambda size: (size, 1)),  # AssemblyScript: class id 1 is ArrayBuffer
)


class GuestAllocator:
    """The allocator of a module. It is false if the module exports no memory or no allocator of a known signature."""

    def __init__(self, module: Module) -> None:
        self.module = module
        known = (one for one in _CONVENTIONS if _fits(module, one))
        self._convention = None if module.memory_name is None else next(known, None)
        self._free = None if self._convention is None else _free_export(module, self._convention)
        self.bodies = Bodies(module)

    def __bool__(self) -> bool:
        return self._convention is not None

    @property
    def own(self) -> frozenset[str]:
        """The exports that allocate and free."""
        pair = (None if self._convention is None else self._convention.name, self._free)
        return frozenset(name for name in pair if name is not None)

    @contextmanager
    def placed(self, sandbox: Sandbox, arguments: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Write the buffers among ``arguments`` into guest memory, and yield the raw arguments.

        The buffers are freed at the end if the module exports a function for that. Raise
        :class:`~aegis.errors.CallError` if the allocator returns 0 or an address outside memory; errors of the
        allocator itself, such as traps, propagate.
        """
        held: list[tuple[int, int]] = []
        yield tuple(self.raw(sandbox, arguments, held))
        if self._free is not None and sandbox.state == "ready":
            for address, size in held:
                signature = self.module.signature(self._free)
                sandbox.call(self._free, *(address, size, 1)[: len(signature.params)])

    def raw(self, sandbox: Sandbox, arguments: Sequence[Any], held: list[tuple[int, int]]) -> Iterator[Any]:
        """Yield raw arguments, and append address and size of each buffer that was allocated to ``held``."""
        if self._convention is None:
            raise CallError("the module has no allocator for buffers: it must export a memory and malloc, or the like")
        for argument in arguments:
            if isinstance(argument, Buffer):
                held.append(self._allocate(sandbox, len(argument.data)))
                _write(sandbox, held[-1][0], argument.data)
                yield from (held[-1][0], len(argument.data))
            else:
                yield argument

    def _allocate(self, sandbox: Sandbox, length: int) -> tuple[int, int]:
        assert self._convention is not None
        size = max(1, length)
        address = sandbox.call(self._convention.name, *self._convention.arguments(size)) & 0xFFFF_FFFF
        if address == 0:
            raise CallError(f"the guest's {self._convention.name} returned 0: no memory for {size} bytes")
        return address, size


def place_buffers(sandbox: Sandbox, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Write the buffers among ``arguments`` into guest memory, and return the raw arguments.

    The buffers are not freed; :meth:`GuestAllocator.placed` frees them. Errors are the same as there.
    """
    module: Any = sandbox.module
    return tuple(GuestAllocator(module).raw(sandbox, arguments, []))


def _write(sandbox: Sandbox, address: int, data: bytes) -> None:
    try:
        sandbox.memory.write(address, data)
    except ValueError as error:
        raise CallError(f"the guest's allocator returned an address outside its memory: {error}") from None


def _fits(module: Module, convention: _Convention) -> bool:
    return module.signature(convention.name) == FuncType(("i32",) * convention.params, ("i32",))


def _free_export(module: Module, convention: _Convention) -> str | None:
    fitting = {FuncType(("i32",) * count) for count in (1, 2, 3)}
    known = (n for n in convention.frees if module.export(n) is not None and module.signature(n) in fitting)
    return next(known, None)


# -- parameters ----------------------------------------------------------------------------------------


def layout(module: Module, name: str, allocator: GuestAllocator | None = None) -> list[str]:
    """Return the parameter types of an exported function, with ``buffer`` for each pair of address and length."""
    kinds = list(module.signature(name).params)
    allocator = allocator or GuestAllocator(module)
    if not allocator or name in allocator.own or not allocator.bodies.touches_memory(name):
        return kinds
    names = allocator.bodies.parameter_names(name)
    found: list[str] = []
    at = 0
    while at < len(kinds):
        pair = kinds[at : at + 2] == ["i32", "i32"] and _LENGTH.match(names.get(at + 1, "len").lower()) is not None
        found.append("buffer" if pair else kinds[at])
        at += 2 if pair else 1
    return found
