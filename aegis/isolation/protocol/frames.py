"""The wire format of messages between parent and worker: plain data as bytes.

A value is one byte for its kind, followed by:

    n t f   nothing (None, True, False)
    i       a signed 64-bit integer                I  a 32-bit length and a signed integer of that many bytes
    d       a 64-bit float
    s b     text in UTF-8, bytes: a 32-bit length and the bytes
    S B     the same in the sender's region of shared memory: 64-bit offset and 64-bit length
    l       a list: a 32-bit count and the values
    m       a mapping: a 32-bit count, and a text and a value for each entry

Numbers are little-endian. The format has no other kinds, so a worker cannot create objects of its choosing in the
parent. Lone surrogates are allowed on the wire; the receiver rejects them with a proper error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from aegis.support.lean import Any, Protocol
from aegis.support.pieces import MAX_WHOLE_BYTES, decoded, encoded

__all__ = ["CALL", "SHARED_MIN_BYTES", "ChannelTimeout", "ProtocolError", "decode", "encode"]

CALL = b"c"
"""The kind of a frame that is not a value but a call (:mod:`aegis.isolation.protocol.scalar_frames`)."""

SHARED_MIN_BYTES = 1 << 14
"""Texts and bytes of at least this many bytes pass through shared memory."""
_MAX_NESTING_DEPTH = 200
_MAX_INTEGER_BYTES = 32
_CHUNK = 1 << 16
"""Bytes of a frame, or items of a list, decoded between two checks of the deadline."""
_I64 = struct.Struct("<cq")
_F64 = struct.Struct("<cd")
_LEN = struct.Struct("<cI")
_BLOB = struct.Struct("<cQQ")
_Q = struct.Struct("<q")
_D = struct.Struct("<d")
_U = struct.Struct("<I")
_UU = struct.Struct("<QQ")


class SharedBytes(Protocol):
    """Shared memory for large texts and bytes; :class:`aegis.isolation.protocol.channel.SharedRegion` implements it."""

    size: int

    def put(self, data: Any, length: int) -> int | None:
        """Return the offset of ``data``, copied in; ``None`` if there is no room."""
        ...

    def get(self, offset: int, length: int) -> memoryview:
        """Return a view of a range; raise :class:`ProtocolError` if it is out of bounds."""
        ...


class ProtocolError(Exception):
    """The other side closed the channel or violated the protocol."""


class ChannelTimeout(Exception):
    """No message arrived, or could be decoded, before the deadline."""


# -- encoding --------------------------------------------------------------------------------------


def encode(value: Any, region: SharedBytes | None = None) -> bytearray:
    """Encode ``value``; large texts and bytes go into ``region``. Raise ``TypeError`` if it is not plain data."""
    out = bytearray()
    _put(value, out, region)
    return out


def _put(value: Any, out: bytearray, region: SharedBytes | None) -> None:
    (_PUT.get(value.__class__) or _kin(value))(value, out, region)


def _kin(value: Any) -> Callable[[Any, bytearray, SharedBytes | None], None]:
    """Return the function that encodes an instance of a subclass of a plain class."""
    for kind, put in _PUT.items():
        if isinstance(value, kind):
            return put
    raise TypeError(f"{type(value).__name__} is not plain data")


def _put_int(value: int, out: bytearray, region: SharedBytes | None) -> None:
    if -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
        out += _I64.pack(b"i", value)
    else:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        out += _LEN.pack(b"I", len(raw)) + raw


def _put_str(value: str, out: bytearray, region: SharedBytes | None) -> None:
    raw = (
        value.encode("utf-8", "surrogatepass")
        if len(value) <= MAX_WHOLE_BYTES
        else encoded(value, "utf-8", "surrogatepass")
    )
    if len(raw) >= SHARED_MIN_BYTES:
        _put_block(raw, len(raw), b"sS", out, region)
        return
    out += _LEN.pack(b"s", len(raw))
    out += raw


def _put_bytes(value: Any, out: bytearray, region: SharedBytes | None) -> None:
    _put_block(value, len(value), b"bB", out, region)


def _put_block(value: Any, length: int, kinds: bytes, out: bytearray, region: SharedBytes | None) -> None:
    if length >= SHARED_MIN_BYTES and region is not None:
        at = region.put(value, length)
        if at is not None:
            out += _BLOB.pack(kinds[1:], at, length)
            return
    out += _LEN.pack(kinds[:1], length)
    out += value


def _put_list(value: Sequence[Any], out: bytearray, region: SharedBytes | None) -> None:
    out += _LEN.pack(b"l", len(value))
    find = _PUT.get
    for item in value:
        (find(item.__class__) or _kin(item))(item, out, region)


def _put_map(value: Mapping[str, Any], out: bytearray, region: SharedBytes | None) -> None:
    out += _LEN.pack(b"m", len(value))
    for key, item in value.items():
        _put_str(key, out, region)
        _put(item, out, region)


_PUT: dict[type, Callable[[Any, bytearray, SharedBytes | None], None]] = {
    type(None): lambda value, out, region: out.append(0x6E),
    bool: lambda value, out, region: out.append(0x74 if value else 0x66),
    int: _put_int,
    float: lambda value, out, region: out.extend(_F64.pack(b"d", value)),
    str: _put_str,
    bytes: _put_bytes,
    bytearray: _put_bytes,
    memoryview: _put_bytes,
    list: _put_list,
    tuple: _put_list,
    dict: _put_map,
}


def decode(
    data: bytes | bytearray | memoryview, region: SharedBytes | None = None, *, views: bool = False,
    late: Callable[[], bool] | None = None, budget: int | None = None,
) -> Any:  # fmt: skip
    """Decode one value.

    With ``views``, large bytes are returned as views of ``region``, whose content the other side can change. ``budget``
    is the number of bytes that the Python objects of the value may take. Raise :class:`ProtocolError` before the budget
    is exceeded, and for a malformed frame; raise :class:`ChannelTimeout` if ``late``, called regularly, returns
    ``True``.
    """
    reader = _FrameReader(data, region, views, late, budget)
    try:
        value = reader.value(0)
        reader.charge(0)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"malformed frame: {error}") from None
    if reader.at != len(data):
        raise ProtocolError("malformed frame: trailing bytes")
    return value


class _FrameReader:
    """A cursor over one frame.

    Before an object is created, its CPython size is charged to the budget: a few bytes of a frame can stand for an
    object of 100 bytes. Numbers are charged individually but checked once for each chunk, so they can exceed the budget
    by the size of one chunk.
    """

    def __init__(
        self, data: Any, region: SharedBytes | None, views: bool, late: Callable[[], bool] | None, budget: int | None
    ) -> None:
        self.data, self.at, self.region, self.views = data, 0, region, views
        self.late, self.next_check = late, _CHUNK if late is not None else len(data) + 1
        self.budget = budget
        self.left = _UNLIMITED if budget is None else budget
        self.shared_left = 0 if region is None else region.size

    def value(self, depth: int) -> Any:
        kind = self.data[self.at]
        self.at += 1
        if kind == 0x69:
            value = _Q.unpack_from(self.data, self.at)[0]
            self.at += 8
            self.left -= _INT_BYTES
            return value
        if kind == 0x73:
            return self.text()
        if kind == 0x64:
            self.left -= _FLOAT_BYTES
            number = _D.unpack_from(self.data, self.at)[0]
            self.at += 8
            return number
        if kind == 0x6C:
            return self.many(depth)
        return self.rare(kind, depth)

    def many(self, depth: int) -> list[Any]:
        if depth > _MAX_NESTING_DEPTH:
            raise ProtocolError(f"values nested too deep (more than {_MAX_NESTING_DEPTH} levels)")
        value, inner, count = self.value, depth + 1, self.members(_LIST_BYTES, _ITEM_BYTES)
        # Allocated at its final size: appending would reserve space for growth, which doubles a short list.
        found: list[Any] = [None] * count
        for start in range(0, count, _CHUNK):
            if start:
                self.check_deadline()
            self.charge(0)
            end = min(start + _CHUNK, count)
            found[start:end] = [value(inner) for _ in range(start, end)]
        return found

    def mapping(self, depth: int) -> dict[str, Any]:
        if depth > _MAX_NESTING_DEPTH:
            raise ProtocolError(f"values nested too deep (more than {_MAX_NESTING_DEPTH} levels)")
        found = {}
        for _ in range(self.members(_MAP_BYTES, _ENTRY_BYTES)):
            if self.at >= self.next_check:
                self.check_deadline()
            key = self.key()
            found[key] = self.value(depth + 1)
        return found

    def check_deadline(self) -> None:
        """Raise :class:`ChannelTimeout` if the deadline has passed: decoding one message can take many seconds."""
        self.next_check = self.at + _CHUNK
        if self.late is not None and self.late():
            raise ChannelTimeout

    def rare(self, kind: int, depth: int) -> Any:
        if kind == 0x6E:
            return None
        if kind in (0x74, 0x66):
            return kind == 0x74
        if kind == 0x62:
            return self.raw()
        if kind == 0x49:
            return self.long()
        if kind == 0x42:
            return self.shared_bytes()
        if kind == 0x53:
            return self.shared_text()
        if kind == 0x6D:
            return self.mapping(depth)
        raise ProtocolError(f"unknown kind of value {kind}")

    def shared(self) -> memoryview:
        offset, length = _UU.unpack_from(self.data, self.at)
        self.at += 16
        if self.region is None:
            raise ProtocolError("reference to shared memory on a channel without any")
        view = self.region.get(offset, length)
        # Each byte of the region may be referenced once, so that a small frame cannot refer to it many times.
        self.shared_left -= length
        if self.shared_left < 0:
            raise ProtocolError("references to more shared memory than exists")
        return view

    def shared_bytes(self) -> bytes | memoryview:
        view = self.shared()
        if self.views:
            return view
        self.charge(_BYTES_BYTES + len(view))
        return bytes(view)

    def shared_text(self) -> str:
        """Decode a text in shared memory; copy it first, because the other side could change it during decoding."""
        view = self.shared()
        self.charge(_TEXT_BYTES + len(view))
        return self.long_text(view if self.views else bytes(view))

    def long(self) -> int:
        raw = self.take()
        if len(raw) > _MAX_INTEGER_BYTES and not self.views:
            raise ProtocolError(f"integer too large ({len(raw)}/{_MAX_INTEGER_BYTES} bytes)")
        self.charge(_INT_BYTES + 2 * len(raw))
        return int.from_bytes(raw, "little", signed=True)

    def key(self) -> str:
        key = self.value(_MAX_NESTING_DEPTH)
        if not isinstance(key, str):
            raise ProtocolError("a key of a mapping is not a text")
        return key

    def count(self) -> int:
        number: int = _U.unpack_from(self.data, self.at)[0]
        self.at += 4
        if number > len(self.data) - self.at:
            raise ProtocolError("malformed frame: a count exceeds the remaining bytes")
        return number

    def charge(self, count: int) -> None:
        """Charge ``count`` bytes to the budget; raise :class:`ProtocolError` if it is exceeded."""
        self.left -= count
        if self.left < 0:
            raise ProtocolError(f"message exceeds its memory budget ({self.budget:,} bytes)")

    def text(self) -> str:
        data = self.take()
        self.left -= _TEXT_BYTES + len(data)
        if self.left < 0:
            self.charge(0)
        if len(data) > _CHUNK:
            return self.long_text(data)
        raw = bytes(data)
        if raw.isascii():
            return str(raw, "ascii")
        self.charge(max(0, _width(raw) * len(raw.translate(None, _CONTINUATIONS)) - len(raw)))
        return str(raw, "utf-8", "surrogatepass")

    def long_text(self, data: Any) -> str:
        """Decode a long text; charge it before allocating anything of its size, even a copy of its bytes."""
        self.charge((_long_width(data) - 1) * len(data))
        return decoded(data, "utf-8", "surrogatepass")

    def raw(self) -> bytes:
        data = self.take()
        self.charge(_BYTES_BYTES + len(data))
        return bytes(data)

    def members(self, empty: int, each: int) -> int:
        """Read the number of items that follow; charge for a container of that size."""
        number = self.count()
        self.charge(empty + each * number)
        if self.at >= self.next_check:
            self.check_deadline()
        return number

    def take(self) -> Any:
        length = self.count()
        at, self.at = self.at, self.at + length
        return self.data[at : self.at]


_UNLIMITED = 1 << 62
# Object sizes of 64-bit CPython, including the headers of the allocator and the garbage collector: upper bounds for
# CPython 3.11 and later.
_INT_BYTES, _FLOAT_BYTES, _BYTES_BYTES, _TEXT_BYTES = 32, 24, 48, 80
_LIST_BYTES, _ITEM_BYTES = 64, 8
_MAP_BYTES, _ENTRY_BYTES = 64, 128
"""A dictionary doubles its table when it is two thirds full, and holds both tables while it does."""
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_BELOW_TWO, _BELOW_FOUR = bytes(range(0xC4)), bytes(range(0xF0))


def _width(raw: Any) -> int:
    """Return the bytes for each character of the decoded UTF-8 text: CPython uses the width of the widest (PEP 393)."""
    if raw.__class__ is bytes and raw.isascii():
        return 1
    two, four = _wide()
    return 4 if four.search(raw) else 2 if two.search(raw) else 1


def _long_width(data: Any) -> int:
    """Return the same for a long text, in pieces; a pattern searches it four times as long."""
    width = 1
    for at in range(0, len(data), _CHUNK):
        piece = bytes(data[at : at + _CHUNK])
        if piece.isascii():
            continue
        if piece.translate(None, _BELOW_FOUR):
            return 4
        width = 2 if width == 2 or piece.translate(None, _BELOW_TWO) else 1
    return width


@cache
def _wide() -> tuple[Any, Any]:
    """Return patterns of the UTF-8 lead bytes of characters that CPython stores in at least two, and in four bytes."""
    import re  # most runs decode only ASCII and never need it

    return re.compile(rb"[\xc4-\xff]"), re.compile(rb"[\xf0-\xff]")
