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
from typing import TYPE_CHECKING, Any

from aegis.errors import CallError, PolicyError
from aegis.fuzz.values.bodies import Bodies
from aegis.fuzz.values.core_signatures import Buffer, BufferShape, CString, CStringShape, OutPointer, OutShape
from aegis.fuzz.values.shape import ValueShape
from aegis.text import printable
from aegis.values import FuncType

if TYPE_CHECKING:
    from aegis.engine.compile.artifact import Module
    from aegis.sandbox.sandbox import Sandbox

__all__ = [
    "PLACED", "Buffer", "BufferShape", "CString", "GuestAllocator", "OutPointer", "is_buffer", "layout",
    "place_buffers", "read_buffer", "read_placed",
]  # fmt: skip

PLACED = (Buffer, CString, OutPointer)
"""The classes of values that are placed in the guest's memory."""

_LENGTH = re.compile(r"(.*_)?(n|l|len|length|size|sz|count|cnt|num|bytes|nbytes|cap|capacity)\d*$|.*(len|length|size)$")


def is_buffer(text: str) -> bool:
    """Return whether a text is written like a value in memory: a Python bytes literal, or ``out(4)``."""
    return text[:2] in ("b'", 'b"') or text.startswith("out(")


def read_placed(text: str, shape: ValueShape) -> Any:
    """Parse the text of a value in memory, of one of the shapes for them. Raise ``ValueError`` for anything else."""
    if isinstance(shape, OutShape):
        if text != repr(shape.value):
            raise ValueError(f"invalid memory {printable(text, 60)}: the signature has {shape.value!r}")
        return shape.value
    data = read_buffer(text).data
    if isinstance(shape, CStringShape):
        if b"\0" in data:
            raise ValueError(f"invalid C string {printable(text, 60)}: it contains a NUL")
        return CString(data)
    return Buffer(data)


def read_buffer(text: str) -> Buffer:
    """Parse a buffer from a Python bytes literal. Raise ``ValueError`` for anything else."""
    try:
        data = literal_eval(text) if text[:2] in ("b'", 'b"') else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        data = None
    if not isinstance(data, bytes):
        raise ValueError(f'invalid buffer {printable(text, 60)}: write it as b"..."')
    return Buffer(data)


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


_ALLOCATES = re.compile(r"(.*?)(malloc|alloc|allocate)(_bytes|_buffer|_memory|_mem)?$", re.IGNORECASE)
"""Names of allocators with a prefix, such as ``sqlite3_malloc``; the first group is the prefix."""
_NO_ALLOCATOR = re.compile(r"(c|re|de)alloc(ate)?$|asyncify|_initialize", re.IGNORECASE)
_FREES = ("free", "dealloc", "deallocate", "release")


def _conventions(module: Module) -> Iterator[_Convention]:
    """Yield the well-known allocators, then exports that are named like one and have its signature.

    The name of an allocator may have a prefix; then its partner that frees has the same prefix.
    """
    yield from _CONVENTIONS
    named = []
    for export in module.exports:
        found = _ALLOCATES.match(export.name)
        if found is not None and not _NO_ALLOCATOR.search(export.name):
            prefix, suffix = found[1], found[3] or ""
            frees = tuple(f"{prefix}{free}{end}" for end in (suffix, "") for free in _FREES)
            paired = any(module.export(free) is not None for free in frees)
            named.append((not paired, "malloc" not in export.name.lower(), export.name, frees))
    for alone, other, name, frees in sorted(named):  # those with a partner first: another function may only sound so
        yield _Convention(name, 1, _plain, frees)
        if other and not alone:
            yield _Convention(name, 2, lambda size: (size, 1), frees)  # size and alignment, as in Rust


def _given(module: Module, text: str) -> _Convention:
    """Return the allocator that the user names, as ``NAME`` or ``NAME,FREE``."""
    name, _, free = text.partition(",")
    shapes = {1: _plain, 2: lambda size: (size, 1), 4: _canonical}
    for names in (name, free) if free else (name,):
        if module.export(names) is None:
            raise PolicyError(f"--allocator {printable(text)}: the module exports no {printable(names)}")
    for count, arguments in shapes.items():
        found = _Convention(name, count, arguments, (free,) if free else ())
        if _fits(module, found):
            if free and _free_export(module, found) is None:
                raise PolicyError(f"--allocator {printable(text)}: {printable(free)} does not take an address alone")
            return found
    raise PolicyError(
        f"--allocator {printable(text)}: {printable(name)} does not take a size and return an address: its type must be"
        " (i32) -> i32, (i32, i32) -> i32 for size and alignment, or that of realloc"
    )


class GuestAllocator:
    """The allocator of a module. It is false if the module exports no memory or no allocator of a known signature.

    ``name`` is the allocator that the user names; without it, the exports are searched.
    """

    def __init__(self, module: Module, name: str = "") -> None:
        self.module = module
        if name:
            self._convention: _Convention | None = _given(module, name)
        else:
            known = (one for one in _conventions(module) if _fits(module, one))
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
            if not isinstance(argument, PLACED):
                yield argument
                continue
            data = bytes(argument.size) if isinstance(argument, OutPointer) else argument.data
            if isinstance(argument, CString):
                data += b"\0"
            held.append(self._allocate(sandbox, len(data)))
            _write(sandbox, held[-1][0], data)
            yield held[-1][0]
            if isinstance(argument, Buffer):
                yield len(data)

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
    fitting = {FuncType(("i32",) * count, results) for count in (1, 2, 3) for results in ((), ("i32",))}
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
