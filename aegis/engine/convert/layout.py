"""Where the parts of a value lie: slots of 32 bytes, and behind them an extension of fixed size.

Everything that a type alone decides (kinds, names of fields, pointers between parts) is written once, as a
template; lowering a value then writes only what differs. Lists have no fixed size and so no extension.
"""

from __future__ import annotations

import ctypes
from array import array
from struct import pack_into
from typing import NamedTuple

from aegis.component.keys import MOST_PARTS_KEPT, parts_of
from aegis.errors import AegisInternalError
from aegis.memo import memoised
from aegis.wit.types import Borrow, Enum, Flags, List, Option, Own, Record, Result, Tuple, Variant, WitType

__all__ = ["ENTRY", "FORMATS", "KINDS", "SLOT", "Arena", "Layout", "address_of", "layout_of"]

SLOT = 32
"""Bytes of ``wasmtime_component_val_t``: the kind at 0, the content at 8."""
ENTRY = 48
"""Bytes of a record's entry: the field's name in 16, then its slot."""

KINDS = {
    "bool": 0, "s8": 1, "u8": 2, "s16": 3, "u16": 4, "s32": 5, "u32": 6, "s64": 7, "u64": 8, "f32": 9, "f64": 10,
    "char": 11, "string": 12, List: 13, Record: 14, Tuple: 15, Variant: 16, Enum: 17, Option: 18, Result: 19,
    Flags: 20, Own: 21, Borrow: 21,
}  # fmt: skip
FORMATS = {
    "bool": "B", "s8": "b", "u8": "B", "s16": "h", "u16": "H", "s32": "i", "u32": "I", "s64": "q", "u64": "Q",
    "f32": "f", "f64": "d", "char": "I",
}  # fmt: skip
"""The view through which a scalar is written and read; it checks type and range by itself."""

_MANY = 256
_HEADER = bytes.__basicsize__ - 1


def address_of(data: bytes) -> int:
    """Return where the content of ``data`` lies, for as long as the caller keeps it."""
    return id(data) + _HEADER


def _check_header() -> None:
    probe = b"aegis"
    if ctypes.string_at(address_of(probe), 5) != probe:
        raise AegisInternalError("this interpreter keeps bytes elsewhere than expected")


_check_header()


class Layout(NamedTuple):
    """One type's fixed bytes: its slot, its extension, and the pointers in them.

    ``pointers`` are (in the extension?, offset, target in the extension). ``parts`` are the offsets of what
    is inside: for each part its slot and its extension, both in this extension. ``names`` holds the bytes that the
    extension points to.
    """

    slot: bytes
    extension: bytes
    pointers: tuple[tuple[bool, int, int], ...]
    parts: tuple[tuple[int, int], ...]
    names: tuple[bytes, ...] = ()


def _kind(of: WitType) -> int:
    return KINDS[of if isinstance(of, str) else type(of)]


@memoised(MOST_PARTS_KEPT, parts_of)
def layout_of(of: WitType) -> Layout:
    """Return the layout of a type."""
    slot = bytearray(SLOT)
    slot[0] = _kind(of)
    match of:
        case Record():
            pack_into("Q", slot, 8, len(of.fields))
            return _inline(slot, [t for _, t in of.fields], [name for name, _ in of.fields])
        case Tuple(elements):
            pack_into("Q", slot, 8, len(elements))
            return _inline(slot, list(elements), None)
        case Option(element):
            return _boxed(slot, [element])
        case Result(ok, err):
            return _boxed(slot, [ok, err])
        case Variant():
            return _boxed(slot, [t for _, t in of.cases])
        case Flags():
            return Layout(bytes(slot), bytes(16 * len(of.names)), ((False, 16, 0),), ())
    return Layout(bytes(slot), b"", (), ())


def _inline(slot: bytearray, types: list[WitType], names: list[str] | None) -> Layout:
    """A record or a tuple: its slots in a row, with names before them, then their extensions."""
    if not types:
        return Layout(bytes(slot), b"", (), ())
    stride = SLOT if names is None else ENTRY
    extension = bytearray(stride * len(types))
    kept = [name.encode() for name in names or ()]
    for n, data in enumerate(kept):
        pack_into("QQ", extension, n * ENTRY, len(data), address_of(data))
    places = [n * stride + (stride - SLOT) for n in range(len(types))]
    pointers = [(False, 16, 0)]
    parts = _place(extension, pointers, types, places, kept)
    return Layout(bytes(slot), bytes(extension), tuple(pointers), tuple(parts), tuple(kept))


def _boxed(slot: bytearray, types: list[WitType | None]) -> Layout:
    """An option, result or variant: a slot for each payload; which of them is pointed to is the value's matter."""
    extension = bytearray(SLOT * len(types))
    pointers: list[tuple[bool, int, int]] = []
    places = [n * SLOT for n in range(len(types))]
    kept: list[bytes] = []
    parts = _place(extension, pointers, [t or "bool" for t in types], places, kept)
    return Layout(bytes(slot), bytes(extension), tuple(pointers), tuple(parts), tuple(kept))


def _place(
    extension: bytearray,
    pointers: list[tuple[bool, int, int]],
    types: list[WitType],
    places: list[int],
    names: list[bytes],
) -> list[tuple[int, int]]:
    parts = []
    for at, of in zip(places, types, strict=True):
        inner = layout_of(of)
        extension[at : at + SLOT] = inner.slot
        start = len(extension)
        extension += inner.extension
        names += inner.names
        for deep, offset, target in inner.pointers:
            pointers.append((True, (start if deep else at) + offset, start + target))
        parts.append((at, start))
    return parts


class Arena:
    """Memory of ours for ``count`` values of one layout: their slots in a row, then their extensions.

    ``base`` is its address. What the template leaves open is written through views, which check.
    """

    __slots__ = ("base", "buffer", "size")

    def __init__(self, layout: Layout, count: int) -> None:
        slots, step = SLOT * count, len(layout.extension)
        if count > _MANY and not step:
            # Zeros cost nothing until they are touched, copies of a template do.
            self.buffer = buffer = bytearray(slots)
            buffer[::SLOT] = layout.slot[:1] * count
        else:
            self.buffer = buffer = bytearray(layout.slot * count + layout.extension * count)
        self.size = slots + step * count
        # It stays where it is, for nothing ever resizes it.
        self.base = base = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0
        if layout.pointers and count:
            words = memoryview(buffer).cast("Q")
            for deep, offset, target in layout.pointers:
                first = base + slots + target
                at, stride = (slots + offset, step) if deep else (offset, SLOT)
                if count == 1:
                    words[at >> 3] = first
                else:
                    words[at >> 3 : (at + stride * (count - 1) >> 3) + 1 : stride >> 3] = array(
                        "Q", range(first, first + step * count, step)
                    )
