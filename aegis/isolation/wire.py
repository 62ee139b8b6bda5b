"""What parent and worker say to each other: plain data in frames over a socket, large bytes in shared memory.

A frame is its length (32 bits, little-endian), then one value. A value is a byte that says its kind, then:

    n t f   nothing, true, false
    i       an integer of 64 bits, signed          I  its length (32 bits), then any integer, signed
    d       a float of 64 bits
    s b     text in UTF-8, bytes: length (32 bits), then as many bytes
    B       bytes in the sender's region of shared memory: offset and length (64 bits each)
    l       a list: how many (32 bits), then the values
    m       a mapping: how many (32 bits), then a text and a value for each

Nothing else can be said, so nothing that a worker sends makes an object of its choosing. Lone surrogates
pass, for who gets the text says what is wrong with it.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aegis.descriptors import standard_reserved

__all__ = [
    "LARGE",
    "LOOK",
    "SEAL_ALL",
    "SEAL_SIZE",
    "Broken",
    "Channel",
    "Gone",
    "Late",
    "Region",
    "decode",
    "encode",
    "seal",
]

LARGE = 1 << 14
"""Bytes from which on a value goes through shared memory."""
_MOST_FRAME = (1 << 32) - 1
"""Bytes of a frame that its length can say."""
_FRAME_WITHOUT_BUDGET = 1 << 28
"""Bytes of a frame that is received where nothing says how large a value may be."""
_MOST_FDS = 250
_DEEPEST = 200
_LONGEST_INT = 32
_PIECE = 1 << 16
_I64 = struct.Struct("<cq")
_F64 = struct.Struct("<cd")
_LEN = struct.Struct("<cI")
_BLOB = struct.Struct("<cQQ")
_FRAME = struct.Struct("<I")
_Q = struct.Struct("<q")
_D = struct.Struct("<d")
_U = struct.Struct("<I")
_UU = struct.Struct("<QQ")


class Broken(Exception):
    """The other side is gone, or said what cannot be understood."""


class Gone(Broken):
    """The other side is gone."""


class Late(Exception):
    """Nothing came in time."""


class Region:
    """Shared memory that one side fills and the other reads: half of an unlinked file that cannot shrink."""

    def __init__(self, descriptor: int, offset: int, size: int, *, write: bool) -> None:
        self.descriptor, self.size, self._offset, self._write = descriptor, size, offset, write
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._closed = False
        self.used = 0

    @staticmethod
    def new(size: int) -> int:
        """Make the file for two regions of ``size``, and return its descriptor.

        Nobody can change its length, so nobody can make the other side crash by cutting it.
        """
        descriptor = os.memfd_create("aegis", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, 2 * size)
            seal(descriptor, SEAL_SIZE)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @classmethod
    def pair(cls, descriptor: int, size: int, *, parent: bool) -> tuple[Region, Region]:
        """Return what this side fills and what it reads."""
        halves = (0, size) if parent else (size, 0)
        return cls(descriptor, halves[0], size, write=True), cls(descriptor, halves[1], size, write=False)

    def view(self) -> memoryview:
        """Return its bytes, mapped at first use. Raise :class:`Broken` once it is closed.

        By then its descriptor may be closed too, and the number another file's.
        """
        if self._closed:
            raise Broken("shared memory that was let go of")
        if self._view is None:
            access = mmap.PROT_READ | (mmap.PROT_WRITE if self._write else 0)
            with standard_reserved():  # the mapping keeps a copy of the descriptor
                self._map = mmap.mmap(
                    self.descriptor, self.size, flags=mmap.MAP_SHARED, prot=access, offset=self._offset
                )
            self._view = memoryview(self._map)
        return self._view

    def put(self, data: Any, length: int) -> int | None:
        """Copy ``data`` in and return its offset, ``None`` when there is no room."""
        at = self.used
        if at + length > self.size:
            return None
        self.view()[at : at + length] = data
        self.used = (at + length + 63) & ~63
        return at

    def get(self, offset: int, length: int) -> memoryview:
        """Return a view of a part; raise :class:`Broken` when it does not lie inside."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Broken("a part of shared memory that does not exist")
        return self.view()[offset : offset + length]

    def close(self) -> None:
        """Unmap it; views that are still out keep the mapping, which goes with them. The descriptor stays open."""
        view, mapped = self._view, self._map
        self._view = self._map = None
        self._closed = True
        with contextlib.suppress(BufferError):
            if view is not None:
                view.release()
            if mapped is not None:
                mapped.close()


SEAL_SIZE = 0x0002 | 0x0004 | 0x0001
"""F_SEAL_SHRINK, F_SEAL_GROW, and F_SEAL_SEAL: no seal can be added."""
SEAL_ALL = SEAL_SIZE | 0x0008
"""Besides, F_SEAL_WRITE."""


def seal(descriptor: int, seals: int) -> None:
    """Seal a file in memory (memfd_create(2))."""
    import fcntl

    fcntl.fcntl(descriptor, getattr(fcntl, "F_ADD_SEALS", 1033), seals)


# -- values -----------------------------------------------------------------------------------------


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
    out += _LEN.pack(b"s", len(raw))
    out += raw


def _put_bytes(value: Any, out: bytearray, region: Region | None) -> None:
    length = len(value)
    if length >= LARGE and region is not None:
        at = region.put(value, length)
        if at is not None:
            out += _BLOB.pack(b"B", at, length)
            return
    out += _LEN.pack(b"b", length)
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
            return self.shared()
        if kind == 0x6D:
            return self.mapping(depth)
        raise Broken(f"a value of unknown kind {kind}")

    def shared(self) -> bytes | memoryview:
        offset, length = _UU.unpack_from(self.data, self.at)
        self.at += 16
        if self.region is None:
            raise Broken("shared memory where there is none")
        view = self.region.get(offset, length)
        self.shared_left -= length
        if self.shared_left < 0:
            raise Broken("more of shared memory than there is")
        if not self.views:
            self.charge(_BYTES_BYTES + length)
        return view if self.views else bytes(view)

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
_TWO_BYTES, _FOUR_BYTES = re.compile(rb"[\xc4-\xff]"), re.compile(rb"[\xf0-\xff]")
_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _width(raw: Any) -> int:
    """Return how many bytes Python takes for each character of this UTF-8: as many as the widest of them needs."""
    return 4 if _FOUR_BYTES.search(raw) else 2 if _TWO_BYTES.search(raw) else 1


# -- frames -----------------------------------------------------------------------------------------


class Channel:
    """One end of a conversation. One thread uses it at a time.

    ``outgoing`` is the region that this side fills, ``incoming`` the other's. A worker may have ``views`` of
    what its parent wrote; the parent copies, for a worker could change it under its hands. With ``patient`` false
    receiving looks up every :data:`LOOK` seconds, so that it can be given up.
    """

    budget: int | None = None
    """How many bytes of memory a value that is received may take, and how many its frame may have; ``None``: as many
    as it wants, in a frame of 256 MiB."""

    def __init__(
        self, end: socket.socket, outgoing: Region | None = None, incoming: Region | None = None, *,
        views: bool = False, patient: bool = False,
    ) -> None:  # fmt: skip
        self.socket, self.outgoing, self.incoming, self._views = end, outgoing, incoming, views
        self._buffer = bytearray()
        end.settimeout(None)
        # The system keeps the time: one call where a poll before it would make three.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SPAN)
        if not patient:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _SPAN)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self.socket.fileno()

    def send(
        self, message: Any, descriptors: Sequence[int] = (), *, until: float | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Send one value, and open descriptors with it. Raise ``TypeError`` for what is not plain, before
        anything is sent; :class:`Broken` when the other side is gone, :class:`Late` at ``until`` (monotonic),
        or when ``stopped`` says so, which is asked whenever the other side takes nothing.
        With descriptors nothing goes through shared memory: who gets those does not have it yet.
        """
        region = None if descriptors else self.outgoing
        if region is not None:
            region.used = 0
        body = encode(message, region)
        if len(body) > _MOST_FRAME:
            raise TypeError(f"{len(body):,} bytes are more than one message may have")
        data = _FRAME.pack(len(body)) + body
        late = _late(until, stopped)
        sent = self._put(data, descriptors, late)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                if until is not None and time.monotonic() >= until:
                    raise Late
                rest = rest[self._put(rest, (), late) :]

    def _put(self, data: Any, descriptors: Sequence[int], late: Callable[[], bool]) -> int:
        while True:
            try:
                if descriptors:
                    rights = array.array("i", descriptors[:_MOST_FDS])
                    return self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                return self.socket.send(data, _NOSIGNAL)
            except BlockingIOError:
                if late():
                    raise Late from None
            except OSError as error:
                raise Gone(f"the other side is gone: {error.strerror}") from None

    def recv(self, until: float | None = None, stopped: Callable[[], bool] | None = None) -> Any:
        """Return the next value. Raise :class:`Broken` at the end, :class:`Late` at ``until`` (monotonic).

        ``stopped`` is asked now and then, and gives up as time does.
        """
        buffer = self._buffer
        while True:
            if len(buffer) >= 4:
                size = _FRAME.unpack_from(buffer)[0]
                if size > (_FRAME_WITHOUT_BUDGET if self.budget is None else self.budget):
                    raise Broken(f"a frame of {size:,} bytes")
                if len(buffer) >= size + 4:
                    return self._take(size, _late(until, stopped) if size > _PIECE else None)
            self._fill(until, stopped)
            if until is not None and time.monotonic() >= until:
                raise Late  # who sends a byte now and then is no reason to wait

    def _take(self, size: int, late: Callable[[], bool] | None) -> Any:
        buffer = self._buffer
        if len(buffer) == size + 4:
            self._buffer = bytearray()
            return self._decoded(memoryview(buffer)[4:], late)
        frame = bytes(memoryview(buffer)[4 : size + 4])
        del buffer[: size + 4]
        return self._decoded(frame, late)

    def _decoded(self, frame: bytes | memoryview, late: Callable[[], bool] | None) -> Any:
        return decode(frame, self.incoming, views=self._views, late=late, budget=self.budget)

    def waiting(self) -> bool:
        """Tell whether a whole value, or a part of one, was received already."""
        return bool(self._buffer)

    def _fill(self, until: float | None, stopped: Callable[[], bool] | None) -> None:
        while True:
            try:
                data = self.socket.recv(_PIECE)
                break
            except BlockingIOError:
                if _late(until, stopped)():
                    raise Late from None
            except OSError as error:
                raise Gone(f"the other side is gone: {error.strerror}") from None
        if not data:
            raise Gone("the other side is gone")
        self._buffer += data

    def recv_with(self, most: int) -> tuple[Any, list[int]]:
        """Return the next value and the descriptors that came with it; for the first message of a worker."""
        data, descriptors, _, _ = socket.recv_fds(self.socket, _PIECE, most)
        if not data:
            for descriptor in descriptors:
                os.close(descriptor)
            raise Gone("the other side is gone")
        self._buffer += data
        return self.recv(), list(descriptors)

    def close(self) -> None:
        """Close this end and its regions."""
        self.socket.close()
        for region in (self.outgoing, self.incoming):
            if region is not None:
                region.close()


def _late(until: float | None, stopped: Callable[[], bool] | None) -> Callable[[], bool]:
    """Return what tells whether it is ``until`` (monotonic), or ``stopped``."""
    return lambda: (until is not None and time.monotonic() >= until) or (stopped is not None and stopped())


LOOK = 0.05
"""Seconds between two looks at what may end a wait."""
_SPAN = struct.pack("@ll", 0, int(LOOK * 1_000_000))
_NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
