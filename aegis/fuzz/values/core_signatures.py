"""Signatures of core functions, such as ``render(cstr, buffer, out u32)``: what the numbers of a function mean.

Core WebAssembly has only numbers. A signature says which of them are addresses, and of what. The guest's allocator
provides the memory.

    buffer, bytes   an address and a length in bytes
    text            the same, with valid UTF-8
    cstr            the address of bytes that end with a NUL
    out T           the address of memory for a T: a type or a number of bytes, zero before the call
    u8 … s64        an integer of this range; also bool, char, i32, i64, f32, f64
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from aegis.errors import PolicyError
from aegis.fuzz.values.generate import core_shape
from aegis.fuzz.values.scalars import Integer
from aegis.fuzz.values.sequences import Octets, TextShape
from aegis.fuzz.values.shape import ValueShape
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.fuzz.dictionary import Dictionary

__all__ = ["Buffer", "BufferShape", "CString", "OutPointer", "Parameter", "read_signature"]

_SIGNATURE = re.compile(r"\s*(.+?)\s*\(([^()]*)\)\s*\Z")
_BITS = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "s8": 8, "s16": 16, "s32": 32, "s64": 64, "bool": 8, "char": 32,
         "i32": 32, "i64": 64, "f32": 32, "f64": 64, "ptr": 32}  # fmt: skip
_MAX_OUT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are passed to a core function as an address and a length."""

    data: bytes

    def __repr__(self) -> str:
        return repr(self.data)


@dataclass(frozen=True, slots=True)
class CString:
    """Bytes without a NUL that are passed to a core function as an address; a NUL follows them."""

    data: bytes

    def __repr__(self) -> str:
        return repr(self.data)


@dataclass(frozen=True, slots=True)
class OutPointer:
    """Memory of ``size`` zero bytes that is passed to a core function as an address."""

    size: int

    def __repr__(self) -> str:
        return f"out({self.size})"


class BufferShape:
    """The shape of buffers, which delegates to the shape of bytes or, if ``text``, of strings."""

    def __init__(self, dictionary: Dictionary | None = None, *, text: bool = False) -> None:
        self.octets = Octets(dictionary)
        self.texts = TextShape(dictionary) if text else None

    def made(self, data: bytes) -> Any:
        return Buffer(data)

    def simplest(self) -> Any:
        return self.made(b"")

    def random(self, rng: Random, size: int) -> Any:
        if self.texts is not None:
            return self.made(self.texts.random(rng, size).encode("utf-8", "replace"))
        return self.made(self.octets.random(rng, size))

    def mutate(self, rng: Random, value: Any) -> Any:
        if self.texts is not None:
            text = value.data.decode("utf-8", "replace")
            return self.made(self.texts.mutate(rng, text).encode("utf-8", "replace"))
        return self.made(self.octets.mutate(rng, value.data))

    def simpler(self, value: Any) -> Iterator[Any]:
        if self.texts is not None:
            for text in self.texts.simpler(value.data.decode("utf-8", "replace")):
                yield self.made(text.encode())
            return
        for data in self.octets.simpler(value.data):
            if self.made(data) != value:
                yield self.made(data)

    def size(self, value: Any) -> int:
        return self.octets.size(value.data)


class CStringShape(BufferShape):
    """The shape of C strings, which are mostly text."""

    def __init__(self, dictionary: Dictionary | None = None) -> None:
        super().__init__(dictionary)
        self._text = TextShape(dictionary)

    def made(self, data: bytes) -> Any:
        return CString(data.partition(b"\0")[0])

    def random(self, rng: Random, size: int) -> Any:
        if rng.random() < 0.8:
            return self.made(self._text.random(rng, size).encode("utf-8", "replace"))
        return super().random(rng, size)

    def mutate(self, rng: Random, value: Any) -> Any:
        if rng.random() < 0.5:
            text = value.data.decode("utf-8", "replace")
            return self.made(self._text.mutate(rng, text).encode("utf-8", "replace"))
        return super().mutate(rng, value)

    def simpler(self, value: Any) -> Iterator[Any]:
        for data in self.octets.simpler(value.data):
            if b"\0" in data:
                data = data.replace(b"\0", b"a")  # the simplest byte is no part of a C string
            if (len(data), data) < (len(value.data), value.data):
                yield CString(data)


class OutShape:
    """The shape of memory for a result; it has one value."""

    def __init__(self, size: int) -> None:
        self.value = OutPointer(size)

    def simplest(self) -> Any:
        return self.value

    def random(self, rng: Random, size: int) -> Any:
        return self.value

    def mutate(self, rng: Random, value: Any) -> Any:
        return self.value

    def simpler(self, value: Any) -> Iterator[Any]:
        return iter(())

    def size(self, value: Any) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a signature: its word, the core types that it stands for, and its shape."""

    kind: str
    types: tuple[str, ...]
    shape: ValueShape


def read_signature(text: str, dictionary: Dictionary | None = None) -> tuple[str, list[Parameter]]:
    """Return the name of the function and its parameters. Raise :class:`~aegis.errors.PolicyError` if it is invalid."""
    found = _SIGNATURE.match(text)
    if found is None:
        raise PolicyError(f"--signature {printable(text, 120)}: write NAME(KIND, …), such as 'render(cstr, out u32)'")
    words = [" ".join(word.split()) for word in found[2].split(",")] if found[2].strip() else []
    return found[1], [_parameter(word, text, dictionary) for word in words]


def _parameter(word: str, text: str, dictionary: Dictionary | None) -> Parameter:
    if word in ("buffer", "bytes"):
        return Parameter(word, ("i32", "i32"), BufferShape(dictionary))
    if word in ("text", "string"):
        return Parameter(word, ("i32", "i32"), BufferShape(dictionary, text=True))
    if word == "cstr":
        return Parameter(word, ("i32",), CStringShape(dictionary))
    kind, _, rest = word.partition(" ")
    if kind == "out" and rest:
        size = _BITS[rest] // 8 if rest in _BITS else int(rest) if rest.isdecimal() else 0
        if 0 < size <= _MAX_OUT_BYTES:
            return Parameter(word, ("i32",), OutShape(size))
    if word in ("i32", "i64", "f32", "f64"):
        return Parameter(word, (word,), core_shape(word, dictionary))
    if word in _BITS and word != "ptr":
        low, high = (0, 1) if word == "bool" else (0, 0x10FFFF) if word == "char" else _range(word)
        return Parameter(word, ("i64" if _BITS[word] == 64 else "i32",), Integer(low, high, dictionary))
    raise PolicyError(
        f"--signature {printable(text, 120)}: unknown kind {printable(word or 'nothing', 40)}: use buffer, text, cstr, "
        "out TYPE, out BYTES, u8 to u64, s8 to s64, bool, char, i32, i64, f32 or f64"
    )


def _range(word: str) -> tuple[int, int]:
    bits = int(word[1:])
    return (0, (1 << bits) - 1) if word[0] == "u" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def flat(parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """Return the core types of the parameters together."""
    return tuple(kind for parameter in parameters for kind in parameter.types)
