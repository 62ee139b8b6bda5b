"""Strings in linear memory, in the three encodings of the canonical ABI (CanonicalABI.md, "Loading" and "Storing").

Lifting takes an address and a length in code units; in ``latin1+utf16`` the highest bit of the length marks UTF-16.
Lowering takes a string that was encoded before the guest's realloc is first called. The number, order and sizes of the
reallocs are visible to the guest, so they follow the specification exactly; they depend on the source encoding. A
string from the host counts as UTF-8, and a string from another component keeps its encoding and its number of code
units there.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from operator import add
from typing import Any

from aegis.component.traps import trap, unaligned
from aegis.support.pieces import (
    MAX_WHOLE_BYTES,
    copy_bytes,
    decoded,
    encoded,
    has_astral,
    in_pieces,
    is_ascii,
    text_pieces,
)

__all__ = [
    "LOADERS",
    "PLACERS",
    "RAW_LOADERS",
    "RAW_PLACERS",
    "EncodedString",
    "encode_text",
    "encode_texts",
    "load_many_utf8",
    "place_bytes",
]

_TAG = 1 << 31
_MAX_STRING_BYTES = (1 << 31) - 1
_SHORT_BYTES = 64
"""Strings up to this size count as one byte a character against ``value_bytes``; the error is small."""
_MAX_GAP_BYTES = 1 << 20
"""Bytes between the strings of a list that are decoded together; at most twice the bytes of the strings themselves."""
_ASTRAL = re.compile(rb"[\xf0-\xf4]")
_SEARCHED_BYTES = 512
"""Strings up to this size are searched for astral characters by a pattern; for longer ones that takes longer."""
_encode = str.encode


def load_utf8(cx: Any, at: int, size: int) -> str:
    """Lift a UTF-8 string; trap if it is out of bounds or malformed."""
    memory = cx.memory
    view, end = memory.view, at + size
    if end > len(view):
        view = memory.need(end)
    door = cx.door
    door.bytes_left = left = door.bytes_left - size
    door.bytes_in += size
    if left < door.check_below:
        door.check()
    if size > _SHORT_BYTES:
        return _long_utf8(door, view[at:end], size)
    door.value_left = left = door.value_left - size
    if left < 0:
        door.hold(0)
    try:
        return str(view[at:end], "utf-8")
    except UnicodeDecodeError:
        raise trap("a string is not valid UTF-8") from None


def load_staged(stage: Any, at: int, size: int) -> str:
    """Lift a UTF-8 string from the vectors that a fused module returned; the module has checked its bounds."""
    door = stage.door
    door.bytes_left = left = door.bytes_left - size
    door.bytes_in += size
    if left < door.check_below:
        door.check()
    door.value_left = left = door.value_left - size
    if left < 0:
        door.hold(0)
    try:
        return stage.buffer[at : at + size].decode()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        raise trap("a string is not valid UTF-8") from None


def load_many_utf8(cx: Any, words: list[int]) -> list[str]:
    """Lift several UTF-8 strings; ``words`` alternates their addresses and lengths."""
    starts, sizes = words[::2], words[1::2]
    ends = list(map(add, starts, sizes))
    memory, door, total = cx.memory, cx.door, sum(sizes)
    if total > MAX_WHOLE_BYTES and len(sizes) > 1 and in_pieces(total):
        half = len(sizes) // 2 * 2
        return load_many_utf8(cx, words[:half]) + load_many_utf8(cx, words[half:])
    full = starts if all(sizes) else [start for start, size in zip(starts, sizes, strict=True) if size]
    low, high = min(full, default=0), max(ends)
    paid = 0 < total <= min(door.value_left, door.bytes_left)
    near = high - low - total <= min(2 * total, _MAX_GAP_BYTES)
    if paid and near and (high <= len(memory.view) or high <= memory.size()):
        # Consecutive allocations lie close together. If the whole range is ASCII, decode it once and slice: a byte
        # offset is then a character offset. Otherwise fall through; each string is decoded and charged on its own.
        try:
            together = str(memory.need(high)[low:high], "ascii")
        except UnicodeDecodeError:
            pass
        else:
            door.charge_lifted(total)
            door.hold(total)
            return [together[start - low : end - low] for start, end in zip(starts, ends, strict=True)]
    return [load_utf8(cx, start, size) for start, size in zip(starts, sizes, strict=True)]


def _long_utf8(door: Any, view: memoryview, size: int) -> str:
    door.hold(size)
    if size <= MAX_WHOLE_BYTES or not in_pieces(size) or is_ascii(view):
        try:
            return str(view, "ascii")
        except UnicodeDecodeError:
            pass
    # CPython stores every character of a string as wide as the widest (PEP 393): 2 bytes beyond Latin-1, 4 beyond
    # the basic multilingual plane. `size` more bytes were charged above.
    astral = _ASTRAL.search(view) if size <= _SEARCHED_BYTES else has_astral(view)
    door.hold((3 if astral else 1) * size)
    try:
        return decoded(view, "utf-8")
    except UnicodeDecodeError:
        raise trap("a string is not valid UTF-8") from None


def load_utf16(cx: Any, at: int, units: int) -> str:
    """Lift a UTF-16 string, little-endian; trap if it is misaligned, out of bounds or malformed."""
    size = 2 * units
    if size > _MAX_STRING_BYTES:
        raise trap("a string is too long")
    if at & 1:
        raise unaligned()
    view = cx.memory.need(at + size)
    cx.door.charge_lifted(size)
    cx.door.hold(2 * size)
    try:
        data = view[at : at + size]
        return str(data, "utf-16-le") if size <= MAX_WHOLE_BYTES else decoded(data, "utf-16-le")
    except UnicodeDecodeError:
        raise trap("a string is not valid UTF-16") from None


def load_latin1_or_utf16(cx: Any, at: int, tagged: int) -> str:
    """Lift Latin-1, or UTF-16 if the highest bit of the length is set (``load_string_from_range``)."""
    if tagged & _TAG:
        return load_utf16(cx, at, tagged ^ _TAG)
    if at & 1:
        raise unaligned()
    view = cx.memory.need(at + tagged)
    cx.door.charge_lifted(tagged)
    cx.door.hold(tagged)
    return str(view[at : at + tagged], "latin-1")


LOADERS = {"utf8": load_utf8, "utf16": load_utf16, "latin1+utf16": load_latin1_or_utf16}


class EncodedString:
    """A string passing between two components, with its encoding and number of code units in the source memory."""

    __slots__ = ("encoding", "text", "units")

    def __init__(self, text: str, encoding: str, units: int) -> None:
        self.text, self.encoding, self.units = text, encoding, units


def _raw_utf8(cx: Any, at: int, size: int) -> EncodedString:
    return EncodedString(load_utf8(cx, at, size), "utf8", size)


def _raw_utf16(cx: Any, at: int, units: int) -> EncodedString:
    return EncodedString(load_utf16(cx, at, units), "utf16", units)


def _raw_latin1_or_utf16(cx: Any, at: int, tagged: int) -> EncodedString:
    text = load_latin1_or_utf16(cx, at, tagged)
    # Storing depends on whether the source component always uses the encoding or chose it for this string.
    return (
        EncodedString(text, "latin1", tagged)
        if not tagged & _TAG
        else EncodedString(text, "compact-utf16", tagged ^ _TAG)
    )


RAW_LOADERS = {"utf8": _raw_utf8, "utf16": _raw_utf16, "latin1+utf16": _raw_latin1_or_utf16}


# -- lowering -------------------------------------------------------------------------------------


def encode_text(value: Any) -> bytes | bytearray:
    """Encode a ``str`` as UTF-8; raise ``TypeError`` for other types and ``ValueError`` for lone surrogates."""
    return encoded(value, "utf-8") if value.__class__ is str and len(value) > MAX_WHOLE_BYTES else _encode(value)


def encode_texts(values: Iterable[Any]) -> list[Any]:
    """Encode each ``str`` of a list, with the errors of :func:`encode_text`."""
    if threading.current_thread() is threading.main_thread():
        return list(map(_encode, values))
    return list(map(encode_text, values))


def place_bytes(cx: Any, data: Any) -> tuple[int, int]:
    """Allocate memory with the guest's realloc and copy UTF-8 or a ``list<u8>`` there; return address and length."""
    size = len(data)
    at = cx.realloc(1, size)
    if size > MAX_WHOLE_BYTES:
        copy_bytes(cx.memory.view, at, data)
    else:
        cx.memory.view[at : at + size] = data
    cx.door.charge_lowered(size)
    return at, size


def place_utf16(cx: Any, data: Any) -> tuple[int, int]:
    """Store as UTF-16: allocate for the worst case, then shrink to the actual size (``store_utf8_to_utf16``)."""
    worst = 2 * len(data)
    if worst <= MAX_WHOLE_BYTES or not in_pieces(worst):
        return _utf16(cx, str(data, "utf-8"), worst)
    parts = [text.encode("utf-16-le") for text in text_pieces(data, "utf-8")]
    return _store_utf16(cx, cx.realloc(2, worst), parts, worst)


def _utf16(cx: Any, text: str, worst: int) -> tuple[int, int]:
    made = encoded(text, "utf-16-le") if worst > MAX_WHOLE_BYTES else text.encode("utf-16-le")
    size = len(made)
    at = cx.realloc(2, worst)
    cx.memory.view[at : at + size] = made
    cx.door.charge_lowered(size)
    if size < worst:
        at = cx.reallocate(at, worst, 2, size)
    return at, size >> 1


def _store_utf16(cx: Any, at: int, parts: Iterable[bytes], worst: int) -> tuple[int, int]:
    """Store a text in parts at ``at``, where the guest has allocated ``worst`` bytes, and shrink them to its size."""
    size = _store(cx, at, parts)
    if size < worst:
        at = cx.reallocate(at, worst, 2, size)
    return at, size >> 1


def _store(cx: Any, at: int, parts: Iterable[bytes]) -> int:
    """Copy ``parts`` one after the other to ``at``; return their size."""
    view, end = cx.memory.view, at
    for part in parts:
        view[end : end + len(part)] = part
        end += len(part)
    cx.door.charge_lowered(end - at)
    return end - at


def place_latin1_or_utf16(cx: Any, data: Any) -> tuple[int, int]:
    """Store as Latin-1 if it can encode the string, else as UTF-16 (``store_string_to_latin1_or_utf16``)."""
    units = len(data)
    if units <= MAX_WHOLE_BYTES or not in_pieces(units):
        return _latin1_or_utf16(cx, str(data, "utf-8"), units)
    texts = [*text_pieces(data, "utf-8")]
    at = cx.realloc(2, units)
    try:
        parts = [text.encode("latin-1") for text in texts]
    except UnicodeEncodeError:
        parts = [text.encode("utf-16-le") for text in texts]
        at, count = _store_utf16(cx, cx.reallocate(at, units, 2, 2 * units), parts, 2 * units)
        return at, count | _TAG
    size = _store(cx, at, parts)
    if size < units:
        at = cx.reallocate(at, units, 2, size)
    return at, size


def _latin1_or_utf16(cx: Any, text: str, units: int) -> tuple[int, int]:
    at = cx.realloc(2, units)
    try:
        made = encoded(text, "latin-1") if units > MAX_WHOLE_BYTES else text.encode("latin-1")
    except UnicodeEncodeError:
        return _inflated(cx, text, at, units)
    size = len(made)
    cx.memory.view[at : at + size] = made
    cx.door.charge_lowered(size)
    if size < units:
        at = cx.reallocate(at, units, 2, size)
    return at, size


def _inflated(cx: Any, text: str, at: int, units: int) -> tuple[int, int]:
    made = encoded(text, "utf-16-le") if units > MAX_WHOLE_BYTES else text.encode("utf-16-le")
    worst, size = 2 * units, len(made)
    at = cx.reallocate(at, units, 2, worst)
    cx.memory.view[at : at + size] = made
    cx.door.charge_lowered(size)
    if size < worst:
        at = cx.reallocate(at, worst, 2, size)
    return at, size >> 1 | _TAG


PLACERS = {"utf8": place_bytes, "utf16": place_utf16, "latin1+utf16": place_latin1_or_utf16}


def _place_raw_utf8(cx: Any, value: EncodedString) -> tuple[int, int]:
    data = encode_text(value.text)
    if value.encoding == "utf8":
        return place_bytes(cx, data)
    units, size = value.units, len(data)
    at = cx.realloc(1, units)
    if value.text.isascii():
        cx.memory.view[at : at + size] = data
        return at, units
    worst = units * (2 if value.encoding == "latin1" else 3)
    at = cx.reallocate(at, units, 1, worst)
    cx.memory.view[at : at + size] = data
    if worst > size:
        at = cx.reallocate(at, worst, 1, size)
    return at, size


def _place_raw_utf16(cx: Any, value: EncodedString) -> tuple[int, int]:
    return _utf16(cx, value.text, 2 * value.units)


def _place_raw_latin1_or_utf16(cx: Any, value: EncodedString) -> tuple[int, int]:
    if value.encoding == "latin1":
        data = encoded(value.text, "latin-1")
        at = cx.realloc(2, value.units)
        cx.memory.view[at : at + len(data)] = data
        return at, value.units
    if value.encoding != "compact-utf16":
        return _latin1_or_utf16(cx, value.text, value.units)
    return _deflated(cx, value)


def _deflated(cx: Any, value: EncodedString) -> tuple[int, int]:
    """Store a string for which the source chose UTF-16 (``store_probably_utf16_to_latin1_or_utf16``)."""
    wide = encoded(value.text, "utf-16-le")
    at = cx.realloc(2, len(wide))
    try:
        narrow = encoded(value.text, "latin-1")
    except UnicodeEncodeError:
        cx.memory.view[at : at + len(wide)] = wide
        return at, value.units | _TAG
    cx.memory.view[at : at + len(narrow)] = narrow
    at = cx.reallocate(at, len(wide), 1, len(narrow))
    if at & 1:
        raise unaligned()
    return at, len(narrow)


RAW_PLACERS = {"utf8": _place_raw_utf8, "utf16": _place_raw_utf16, "latin1+utf16": _place_raw_latin1_or_utf16}
