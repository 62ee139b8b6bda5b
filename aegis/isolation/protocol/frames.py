"""Plain data as bytes: the values that parent and worker say to each other.

A value is a byte that says its kind, then:

    n t f   nothing, true, false
    i       an integer of 64 bits, signed          I  its length (32 bits), then any integer, signed
    d       a float of 64 bits
    s b     text in UTF-8, bytes: length (32 bits), then as many bytes
    S B     the same in the sender's region of shared memory: offset and length (64 bits each)
    l       a list: how many (32 bits), then the values
    m       a mapping: how many (32 bits), then a text and a value for each

Numbers are little-endian. Nothing else can be said, so nothing that a worker sends makes an object of its choosing.
Lone surrogates pass, for who gets the text says what is wrong with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.isolation.protocol.channel import Region

__all__ = ["CALL", "LARGE", "Broken", "Late", "decode", "encode"]

CALL = b"c"
"""The kind of a frame that is no value, but a call (:mod:`aegis.isolation.protocol.scalar_frames`)."""

LARGE = 1 << 14
"""Bytes from which on a value goes through shared memory."""
_DEEPEST = 200
_LONGEST_INT = 32
_PIECE = 1 << 16
_I64 = struct.Struct("<cq")
_F64 = struct.Struct("<cd")
_LEN = struct.Struct("<cI")
_BLOB = struct.Struct("<cQQ")
_Q = struct.Struct("<q")
_D = struct.Struct("<d")
_U = struct.Struct("<I")
_UU = struct.Struct("<QQ")


class Broken(Exception):
    """The other side is gone, or said what cannot be understood."""


class Late(Exception):
    """Nothing came in time."""


# -- from values -----------------------------------------------------------------------------------


def encode(value: Any, region: Region | None = None) -> bytearray:
    """Return ``value`` for the wire; large bytes go into ``region``. Raise ``TypeError`` for what is not plain."""
    out = bytearray()
    _put(value, out, region)
    return out


def _put(value: Any, out: bytearray, region: Region | None) -> None:
    (_PUT.get(value.__class__) or _kin(value))(value, out, region)


def _kin(value: Any) -> Callable[[Any, bytearray, Region | None], None]:
    """Return what writes a value of a class that is derived from a plain one."""
    for kind, put in _PUT.items():
        if isinstance(value, kind):
            return put
    raise TypeError(f"{type(value).__name__} is not plain data")


def _put_int(value: int, out: bytearray, region: Region | None) -> None:
    if -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
        out += _I64.pack(b"i", value)
    else:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        out += _LEN.pack(b"I", len(raw)) + raw


def _put_str(value: str, out: bytearray, region: Region | None) -> None:
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) >= LARGE:
        _put_block(raw, len(raw), b"sS", out, region)
        return
    out += _LEN.pack(b"s", len(raw))
    out += raw


def _put_bytes(value: Any, out: bytearray, region: Region | None) -> None:
    _put_block(value, len(value), b"bB", out, region)


def _put_block(value: Any, length: int, kinds: bytes, out: bytearray, region: Region | None) -> None:
    if length >= LARGE and region is not None:
        at = region.put(value, length)
        if at is not None:
            out += _BLOB.pack(kinds[1:], at, length)
            return
    out += _LEN.pack(kinds[:1], length)
    out += value


def _put_list(value: Sequence[Any], out: bytearray, region: Region | None) -> None:
    out += _LEN.pack(b"l", len(value))
    find = _PUT.get
    for item in value:
        (find(item.__class__) or _kin(item))(item, out, region)


def _put_map(value: Mapping[str, Any], out: bytearray, region: Region | None) -> None:
    out += _LEN.pack(b"m", len(value))
    for key, item in value.items():
        _put_str(key, out, region)
        _put(item, out, region)


_PUT: dict[type, Callable[[Any, bytearray, Region | None], None]] = {
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
    data: bytes | bytearray | memoryview, region: Region | None = None, *, views: bool = False,
    late: Callable[[], bool] | None = None, budget: int | None = None,
) -> Any:  # fmt: skip
    """Return the value that ``data`` is; with ``views``, large bytes as views of ``region``, which change.

    ``budget`` is how many bytes of memory the value may take as Python's objects. Raise :class:`Broken` when it takes
    more, before it does, and for anything that is no value; :class:`Late` when ``late``, which is asked now and then,
    says so.
    """
    reader = _Reader(data, region, views, late, budget)
    try:
        value = reader.value(0)
        reader.charge(0)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise Broken(f"a frame that cannot be read: {error}") from None
    if reader.at != len(data):
        raise Broken("a frame with something behind its value")
    return value


class _Reader:
    """A cursor over one frame.

    Each value is charged what CPython needs for it, before it is made: a few bytes of a frame can stand for an object
    of a hundred. Numbers are charged one by one and looked at in bulk, so they can overdraw by what one piece takes.
    """

    def __init__(
        self, data: Any, region: Region | None, views: bool, late: Callable[[], bool] | None, budget: int | None
    ) -> None:
        self.data, self.at, self.region, self.views = data, 0, region, views
        self.late, self.next_look = late, _PIECE if late is not None else len(data) + 1
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
        if depth > _DEEPEST:
            raise Broken("values nested too deep")
        value, inner, count = self.value, depth + 1, self.members(_LIST_BYTES, _PLACE_BYTES)
        # Its size is known, so nothing is kept for growth, which would double what a short list takes.
        found: list[Any] = [None] * count
        for start in range(0, count, _PIECE):
            if start:
                self.look()
            self.charge(0)
            end = min(start + _PIECE, count)
            found[start:end] = [value(inner) for _ in range(start, end)]
        return found

    def mapping(self, depth: int) -> dict[str, Any]:
        if depth > _DEEPEST:
            raise Broken("values nested too deep")
        found = {}
        for _ in range(self.members(_MAP_BYTES, _ENTRY_BYTES)):
            if self.at >= self.next_look:
                self.look()
            key = self.key()
            found[key] = self.value(depth + 1)
        return found

    def look(self) -> None:
        """Give up if it is late: a message can hold what takes many seconds to read."""
        self.next_look = self.at + _PIECE
        if self.late is not None and self.late():
            raise Late

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
        raise Broken(f"a value of unknown kind {kind}")

    def shared(self) -> memoryview:
        offset, length = _UU.unpack_from(self.data, self.at)
        self.at += 16
        if self.region is None:
            raise Broken("shared memory where there is none")
        view = self.region.get(offset, length)
        self.shared_left -= length
        if self.shared_left < 0:
            raise Broken("more of shared memory than there is")
        return view

    def shared_bytes(self) -> bytes | memoryview:
        view = self.shared()
        if self.views:
            return view
        self.charge(_BYTES_BYTES + len(view))
        return bytes(view)

    def shared_text(self) -> str:
        """Return a text. It is copied before it is looked at: the other side could change it meanwhile."""
        view = self.shared()
        self.charge(_TEXT_BYTES + len(view))
        return self.long_text(view if self.views else bytes(view))

    def long(self) -> int:
        raw = self.take()
        if len(raw) > _LONGEST_INT and not self.views:
            raise Broken("a number of absurd size")
        self.charge(_INT_BYTES + 2 * len(raw))
        return int.from_bytes(raw, "little", signed=True)

    def key(self) -> str:
        key = self.value(_DEEPEST)
        if not isinstance(key, str):
            raise Broken("a key that is no text")
        return key

    def count(self) -> int:
        number: int = _U.unpack_from(self.data, self.at)[0]
        self.at += 4
        if number > len(self.data) - self.at:
            raise Broken("more values than there are bytes")
        return number

    def charge(self, count: int) -> None:
        """Take ``count`` bytes from the budget; raise :class:`Broken` when it is overdrawn."""
        self.left -= count
        if self.left < 0:
            raise Broken(f"a message that takes more memory than it may ({self.budget:,} bytes)")

    def text(self) -> str:
        data = self.take()
        self.left -= _TEXT_BYTES + len(data)
        if self.left < 0:
            self.charge(0)
        if len(data) > _PIECE:
            return self.long_text(data)
        raw = bytes(data)
        if raw.isascii():
            return str(raw, "ascii")
        self.charge(max(0, _width(raw) * len(raw.translate(None, _CONTINUATIONS)) - len(raw)))
        return str(raw, "utf-8", "surrogatepass")

    def long_text(self, data: Any) -> str:
        """Return a long text. Nothing of its length is made before it is charged, not even a copy of the bytes."""
        if not all(bytes(data[at : at + _PIECE]).isascii() for at in range(0, len(data), _PIECE)):
            self.charge((_width(data) - 1) * len(data))
        return str(data, "utf-8", "surrogatepass")

    def raw(self) -> bytes:
        data = self.take()
        self.charge(_BYTES_BYTES + len(data))
        return bytes(data)

    def members(self, empty: int, each: int) -> int:
        """Return how many follow, and charge for a container of so many."""
        number = self.count()
        self.charge(empty + each * number)
        if self.at >= self.next_look:
            self.look()
        return number

    def take(self) -> Any:
        length = self.count()
        at, self.at = self.at, self.at + length
        return self.data[at : self.at]


_UNLIMITED = 1 << 62
# What CPython takes on 64 bits, with the allocator's and the collector's headers; none takes less since 3.11.
_INT_BYTES, _FLOAT_BYTES, _BYTES_BYTES, _TEXT_BYTES = 32, 24, 48, 80
_LIST_BYTES, _PLACE_BYTES = 64, 8
_MAP_BYTES, _ENTRY_BYTES = 64, 128
"""A dictionary doubles when it is two thirds full, and has both sizes while it does."""
_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _width(raw: Any) -> int:
    """Return how many bytes Python takes for each character of this UTF-8: as many as the widest of them needs."""
    if raw.__class__ is bytes and raw.isascii():
        return 1
    two, four = _wide()
    return 4 if four.search(raw) else 2 if two.search(raw) else 1


@cache
def _wide() -> tuple[Any, Any]:
    """Return what finds the first bytes of characters that take two bytes each, and four."""
    import re  # texts of a plain run have none

    return re.compile(rb"[\xc4-\xff]"), re.compile(rb"[\xf0-\xff]")
