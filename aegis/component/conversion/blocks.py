"""Blocks of bytes that lowering makes, and how they are placed in linear memory (CanonicalABI.md, "Storing").

The first functions make a block on the host's side; those named ``place_…`` take it to memory that the guest's realloc
gives, and return its address and its length as the canonical ABI counts it. The source that
:mod:`aegis.component.conversion.lower` writes calls both.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct
from typing import Any, TypeAlias

from aegis.component.conversion.coerce import Unfit, as_list
from aegis.component.conversion.layout import FORMATS, layout
from aegis.component.conversion.scalars import exact, octets, single
from aegis.component.conversion.strings import encode_text
from aegis.component.traps import unaligned

__all__ = [
    "SHORT_BYTES", "Hole", "bytes_of", "fill", "numbers", "place_filled", "place_list", "place_texts",
    "sized", "store_at", "text_of", "unfit",
]  # fmt: skip

_NUMBERS = 1 << 16
"""Numbers that are converted between two looks at the deadline."""
SHORT_BYTES = 4096
"""Bytes of a string or ``list<u8>`` that fit into any guest's memory, and are not counted before they are placed."""
_FEW_TEXTS = 5
"""Strings from which arrays and batches of their sizes are worth making."""
_PAIR = Struct("<II").pack_into

Hole: TypeAlias = "tuple[int, Callable[[Any, Any], tuple[int, int]], Any]"


def unfit(value: object) -> Any:
    """Raise :class:`~aegis.component.conversion.coerce.Unfit`: the value is not of its type."""
    raise Unfit


def text_of(cx: Any, value: Any) -> bytes:
    """Return the UTF-8 of a string, if the guest's memory could hold it."""
    data = encode_text(value)
    if len(data) > SHORT_BYTES:
        cx.door.lower(len(data))
    return data


def sized(cx: Any, count: int, size: int) -> bytearray:
    """Return the block of a list, empty yet, if the guest's memory could hold it."""
    cx.door.lower(count * size)
    return bytearray(count * size)


def bytes_of(cx: Any, value: Any) -> Any:
    """Return a buffer or a sequence of integers as bytes, not copied if it is a buffer already."""
    if value.__class__ is not bytes:
        try:
            view = memoryview(value)
        except TypeError:
            value = octets(value)
        else:
            value = view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
    if len(value) > SHORT_BYTES:
        cx.door.lower(len(value))
    return value


def place_list(cx: Any, block: tuple[Any, int, int]) -> tuple[int, int]:
    """Place a list without pointers: its bytes, its alignment, its length."""
    data, align, count = block
    size = len(data)
    at = cx.realloc(align, size)
    cx.memory.view[at : at + size] = data
    cx.door.charge(size)
    return at, count


def place_filled(cx: Any, block: tuple[bytearray, int, int, list[Hole]]) -> tuple[int, int]:
    """Place a list and all that its elements point to: bytes, alignment, length, holes."""
    data, align, count, holes = block
    size = len(data)
    at = cx.realloc(align, size)
    fill(cx, data, holes)
    cx.memory.view[at : at + size] = data
    cx.door.charge(size)
    return at, count


def place_texts(cx: Any, block: tuple[bytearray, int, int, Sequence[int], list[bytes]]) -> tuple[int, int]:
    """Place a list whose elements point to strings only; their addresses come from as few entries as possible."""
    data, align, count, offsets, texts = block
    size = len(data)
    at = cx.realloc(align, size)
    if len(texts) < _FEW_TEXTS:
        _place_few(cx, data, at, offsets, texts)
        return at, count
    sizes = list(map(len, texts))
    addresses = cx.realloc_many(1, sizes)
    cx.door.charge(size + sum(sizes))
    view = cx.memory.view
    if offsets.__class__ is range:
        words = memoryview(data).cast("I")
        words[::2], words[1::2] = array("I", addresses), array("I", sizes)
    else:
        for offset, address, length in zip(offsets, addresses, sizes, strict=True):
            _PAIR(data, offset, address, length)
    for address, length, text in zip(addresses, sizes, texts, strict=True):
        view[address : address + length] = text
    view[at : at + size] = data
    return at, count


def _place_few(cx: Any, data: bytearray, at: int, offsets: Sequence[int], texts: list[bytes]) -> None:
    """Place a list that is to be at ``at``, and its strings one by one: arrays and batches take longer to make."""
    realloc, total = cx.realloc, len(data)
    addresses = []
    for text in texts:
        addresses.append(realloc(1, len(text)))
        total += len(text)
    cx.door.charge(total)
    view = cx.memory.view
    for offset, address, text in zip(offsets, addresses, texts, strict=True):
        length = len(text)
        _PAIR(data, offset, address, length)
        view[address : address + length] = text
    view[at : at + len(data)] = data


def fill(cx: Any, block: bytearray, holes: list[Hole]) -> None:
    """Place what a block points to, in order, and write the addresses and lengths into it."""
    for offset, place, data in holes:
        _PAIR(block, offset, *place(cx, data))


def store_at(cx: Any, at: int, align: int, block: bytearray, holes: list[Hole]) -> None:
    """Store a block at an address that the guest gave (CanonicalABI.md, ``lower_flat_values``)."""
    size = len(block)
    if at & (align - 1):
        raise unaligned()
    memory = cx.memory
    if at + size > len(memory.view):
        memory.need(at + size)
    if holes:
        fill(cx, block, holes)
    memory.view[at : at + size] = block


@cache
def numbers(of: str) -> Callable[[Any, Any], tuple[Any, int, int]]:
    """Return the first phase of a list of numbers: an array's bytes, its alignment, its length."""
    form, size = FORMATS[of], layout(of).size
    fit = {"f32": single, "f64": exact}.get(of)

    def block(cx: Any, values: Any) -> tuple[Any, int, int]:
        same = values.__class__ is array and values.typecode == form
        if not same:
            values = as_list(values)
        cx.door.lower(len(values) * size)
        if same:
            packed = array(form, values)
        else:
            if fit is not None and (of == "f32" or set(map(type, values)) - {float}):
                values = list(map(fit, values))
            try:
                packed = array(form, values) if len(values) <= _NUMBERS else _in_pieces(cx, form, values)
            except IndexError:  # the list became shorter meanwhile, by another thread or a number's __index__
                raise Unfit from None
        return memoryview(packed).cast("B") if packed else b"", size, len(packed)

    return block


def _in_pieces(cx: Any, form: str, values: Sequence[Any]) -> Any:
    packed = array(form)
    for start in range(0, len(values), _NUMBERS):
        packed.extend(values[start : start + _NUMBERS])
        cx.door.check_time()
    return packed
