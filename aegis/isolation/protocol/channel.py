"""How parent and worker talk: frames over a socket, large bytes and texts in shared memory.

A frame is its length (32 bits, little-endian), then one value (:mod:`aegis.isolation.protocol.frames`).
"""

from __future__ import annotations

import _socket
import array
import contextlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Sequence

from aegis.errors import AegisInternalError
from aegis.isolation.protocol.frames import CALL, LARGE, Broken, Late, decode, encode
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any

__all__ = [
    "LARGE", "LOOK", "MAX_DESCRIPTORS", "NO_SIGNAL", "PAGE", "SEAL_ALL", "SEAL_SIZE", "Broken", "Channel", "Gone",
    "Late", "Region", "decode", "encode", "seal",
]  # fmt: skip

MAX_DESCRIPTORS = 200
"""Descriptors that one message carries; Linux takes 253 (``SCM_MAX_FD``)."""
_MOST_FRAME = (1 << 32) - 1
"""Bytes of a frame that its length can say."""
_FRAME_WITHOUT_BUDGET = 1 << 28
"""Bytes of a frame that is received where nothing says how large a value may be."""
PAGE = mmap.PAGESIZE
"""Bytes of a shared file after its two regions."""
_PIECE = 1 << 16
_FRAME = struct.Struct("<I")


class Gone(Broken):
    """The other side is gone."""


class Region:
    """Shared memory that one side fills and the other reads: half of an unlinked file that cannot shrink."""

    def __init__(self, descriptor: int, offset: int, size: int, *, write: bool) -> None:
        self.descriptor, self.size, self._offset, self._write = descriptor, size, offset, write
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._closed = False
        self._used = 0
        self._kept: dict[int, tuple[memoryview, int]] = {}
        """Views that :meth:`keep` returned, by their identity, with their offsets."""

    @staticmethod
    def new(size: int) -> int:
        """Make the file for two regions of ``size`` and a page, and return its descriptor.

        Nobody can change its length, so nobody can make the other side crash by cutting it.
        """
        descriptor = os.memfd_create("aegis", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, 2 * size + PAGE)
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
        """Return the offset of ``data``, which is copied in unless it is kept here; ``None`` when there is no room."""
        kept = self._kept.get(id(data))
        if kept is not None:
            return kept[1]
        if data.__class__ is memoryview and data.obj is self._map:
            raise AegisInternalError("shared memory was used again before its content was sent")
        at = self._used
        if at + length > self.size:
            return None
        self.view()[at : at + length] = data
        self._used = (at + length + 63) & ~63
        return at

    def keep(self, data: memoryview) -> bytes | memoryview:
        """Return a copy of ``data`` that the next message can send without another: a view of this region.

        It is bytes if it is small, or where there is no room.
        """
        length = len(data)
        at = self.put(data, length) if length >= LARGE else None
        if at is None:
            return bytes(data)
        view = self.view()[at : at + length]
        self._kept[id(view)] = view, at
        return view

    def reuse(self) -> None:
        """Fill the region from its beginning again: the message that refers to it was made."""
        self._used = 0
        self._kept.clear()

    def get(self, offset: int, length: int) -> memoryview:
        """Return a view of a part; raise :class:`Broken` when it does not lie inside."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Broken("a part of shared memory that does not exist")
        return self.view()[offset : offset + length]

    def close(self) -> None:
        """Unmap it; views that are still out keep the mapping, which goes with them. The descriptor stays open."""
        view, mapped = self._view, self._map
        self._view = self._map = None
        self._kept.clear()
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


# -- frames -----------------------------------------------------------------------------------------


class Channel:
    """One end of a conversation. One thread uses it at a time.

    ``outgoing`` is the region that this side fills, ``incoming`` the other's. A worker may have ``views`` of
    what its parent wrote; the parent copies, for a worker could change it under its hands. A worker also gets calls by
    fixed frames (:mod:`aegis.isolation.protocol.scalar_frames`), as bytes; to the parent such a frame means nothing.
    With ``patient`` false receiving looks up every :data:`LOOK` seconds, so that it can be given up.
    """

    budget: int | None = None
    """How many bytes of memory a value that is received may take, and how many its frame may have; ``None``: as many
    as it wants, in a frame of 256 MiB."""
    frames = 0
    """How many frames this side has sent."""

    def __init__(
        self, end: _socket.socket, outgoing: Region | None = None, incoming: Region | None = None, *,
        views: bool = False, patient: bool = False,
    ) -> None:  # fmt: skip
        self.socket, self.outgoing, self.incoming, self._views = end, outgoing, incoming, views
        self._buffer = bytearray()
        end.settimeout(None)
        # The system keeps the time: one call where a poll before it would make three.
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _SPAN)
        if not patient:
            end.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, _SPAN)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self.socket.fileno()

    def send(
        self, message: Any, descriptors: Sequence[int] = (), *, until: float | None = None,
        stopped: Callable[[], bool] | None = None, notice: bool = False,
    ) -> None:  # fmt: skip
        """Send one value, and open descriptors with it. Raise ``TypeError`` for what is not plain, before
        anything is sent; :class:`Broken` when the other side is gone, :class:`Late` at ``until`` (monotonic),
        or when ``stopped`` says so, which is asked whenever the other side takes nothing.
        With descriptors nothing goes through shared memory: who gets those does not have it yet. Nor does a ``notice``,
        which the other side may not have read when this side sends the next message.
        """
        region = None if descriptors or notice else self.outgoing
        try:
            body = encode(message, region)
        finally:
            if region is not None:
                region.reuse()
        if len(body) > _MOST_FRAME:
            raise TypeError(f"{len(body):,} bytes are more than one message may have")
        self.push(_FRAME.pack(len(body)) + body, descriptors, until=until, stopped=stopped)

    def push(
        self, data: bytes | bytearray, descriptors: Sequence[int] = (), *, until: float | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Send bytes that are a frame, or the rest of one, as :meth:`send` does."""
        self.frames += 1
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
                    rights = array.array("i", descriptors)
                    return self.socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
                return self.socket.send(data, NO_SIGNAL)
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
            self._buffer += self.receive(until, stopped)
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
        if self._views and frame[:1] == CALL:
            return _FRAME.pack(len(frame)) + frame
        return decode(frame, self.incoming, views=self._views, late=late, budget=self.budget)

    def waiting(self) -> bool:
        """Tell whether a whole value, or a part of one, was received already."""
        return bool(self._buffer)

    def receive(self, until: float | None = None, stopped: Callable[[], bool] | None = None) -> bytes:
        """Return the next bytes as they come; raise as :meth:`recv` does. Nothing may be :meth:`waiting`."""
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
        return data

    def unread(self, data: bytes) -> None:
        """Have :meth:`recv` read these bytes, which :meth:`receive` returned."""
        self._buffer += data

    def recv_with(self, most: int) -> tuple[Any, list[int]]:
        """Return the next value and the descriptors that came with it; for the first message of a worker."""
        data, descriptors = _received(self.socket, most)
        if not data:
            for descriptor in descriptors:
                os.close(descriptor)
            raise Gone("the other side is gone")
        self._buffer += data
        return self.recv(), descriptors

    def close(self) -> None:
        """Close this end and its regions."""
        self.socket.close()
        for region in (self.outgoing, self.incoming):
            if region is not None:
                region.close()


def _received(end: _socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Return what came first, and at most so many descriptors with it."""
    held = array.array("i")
    data, ancillary, _, _ = end.recvmsg(_PIECE, _socket.CMSG_LEN(most * held.itemsize))
    for level, kind, raw in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            held.frombytes(raw[: len(raw) - len(raw) % held.itemsize])
    return data, list(held)


def _late(until: float | None, stopped: Callable[[], bool] | None) -> Callable[[], bool]:
    """Return what tells whether it is ``until`` (monotonic), or ``stopped``."""
    return lambda: (until is not None and time.monotonic() >= until) or (stopped is not None and stopped())


LOOK = 0.05
"""Seconds between two looks at what may end a wait."""
_SPAN = struct.pack("@ll", 0, int(LOOK * 1_000_000))
NO_SIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)
"""The flag of a send to the other side, which may be gone."""
