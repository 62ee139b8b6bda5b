"""The channel between parent and worker: frames over a Unix socket, large bytes and texts in shared memory.

A frame is a 32-bit little-endian length, followed by one value (:mod:`aegis.isolation.protocol.frames`).
"""

from __future__ import annotations

import _socket
import array
import contextlib
import mmap
import os
import select
import struct
import time
from collections.abc import Callable, Sequence

from aegis.errors import AegisInternalError
from aegis.isolation.protocol.frames import CALL, SHARED_MIN_BYTES, ChannelTimeout, ProtocolError, decode, encode
from aegis.isolation.protocol.spinning import spinning_receive
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any

__all__ = [
    "CHECK_SECONDS",
    "MAX_DESCRIPTORS",
    "NO_SIGNAL",
    "PAGE",
    "SEAL_ALL",
    "SEAL_SIZE",
    "SHARED_MIN_BYTES",
    "Channel",
    "ChannelTimeout",
    "Disconnected",
    "ProtocolError",
    "SharedRegion",
    "decode",
    "encode",
    "seal",
]  # fmt: skip

MAX_DESCRIPTORS = 200
"""Descriptors that one message can carry; Linux accepts 253 (``SCM_MAX_FD``)."""
_MAX_FRAME_BYTES = (1 << 32) - 1
"""The largest length that fits into the 32-bit prefix."""
_UNBUDGETED_FRAME_BYTES = 1 << 28
"""The largest frame that is received on a channel without a budget."""
REGION_BYTES = 256 << 20
"""Bytes of shared memory for each direction; the kernel allocates only pages that are written."""
PAGE = mmap.PAGESIZE
"""Bytes of a shared file after its two regions."""
_CHUNK_BYTES = 1 << 16
"""Bytes received at once."""
_FRAME = struct.Struct("<I")


class Disconnected(ProtocolError):
    """The other side closed its end or died."""


class SharedRegion:
    """Shared memory that one side writes and the other reads: half of a memfd whose size is sealed."""

    def __init__(self, descriptor: int, offset: int, size: int, *, write: bool) -> None:
        self.descriptor, self.size, self._offset, self._write = descriptor, size, offset, write
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._closed = False
        self._used = 0
        self._kept: dict[int, tuple[memoryview, int]] = {}
        """Views that :meth:`keep` returned, and their offsets, by ``id``."""

    @staticmethod
    def new(size: int) -> int:
        """Create the file for two regions of ``size`` bytes and one page; return its descriptor.

        Its size is sealed: if one side could truncate the file, the other would die of SIGBUS.
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
    def pair(cls, descriptor: int, size: int, *, parent: bool) -> tuple[SharedRegion, SharedRegion]:
        """Return the region that this side writes and the region that it reads."""
        halves = (0, size) if parent else (size, 0)
        return cls(descriptor, halves[0], size, write=True), cls(descriptor, halves[1], size, write=False)

    def view(self) -> memoryview:
        """Return the memory, mapped at first use. Raise :class:`ProtocolError` once the region is closed.

        The descriptor may be closed by then, and its number may refer to another file.
        """
        if self._closed:
            raise ProtocolError("shared memory that was released")
        if self._view is None:
            access = mmap.PROT_READ | (mmap.PROT_WRITE if self._write else 0)
            with standard_reserved():  # the mapping duplicates the descriptor
                self._map = mmap.mmap(
                    self.descriptor, self.size, flags=mmap.MAP_SHARED, prot=access, offset=self._offset
                )
            self._view = memoryview(self._map)
        return self._view

    def put(self, data: Any, length: int) -> int | None:
        """Return the offset of ``data``; ``None`` if there is no room. Copy it in, unless :meth:`keep` already did."""
        kept = self._kept.get(id(data))
        if kept is not None:
            return kept[1]
        if data.__class__ is memoryview and data.obj is self._map:
            raise AegisInternalError("shared memory was reused before its content was sent")
        at = self._used
        if at + length > self.size:
            return None
        self.view()[at : at + length] = data
        self._used = (at + length + 63) & ~63
        return at

    def keep(self, data: memoryview) -> bytes | memoryview:
        """Return a copy of ``data`` in this region, which the next message can send without copying again.

        Return ``bytes`` instead if the data is small or there is no room.
        """
        length = len(data)
        at = self.put(data, length) if length >= SHARED_MIN_BYTES else None
        if at is None:
            return bytes(data)
        view = self.view()[at : at + length]
        self._kept[id(view)] = view, at
        return view

    def reuse(self) -> None:
        """Reuse the region from its beginning, after the message that refers to it has been encoded.

        The other side has read the content before this side encodes the next message, because requests alternate with
        answers; notices, which do not, never use the region.
        """
        self._used = 0
        self._kept.clear()

    def get(self, offset: int, length: int) -> memoryview:
        """Return a view of a range; raise :class:`ProtocolError` if it is out of bounds."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ProtocolError("shared memory range out of bounds")
        return self.view()[offset : offset + length]

    def close(self) -> None:
        """Unmap the region, or let existing views unmap it when they are released. The descriptor stays open."""
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
"""F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL, which forbids adding seals."""
SEAL_ALL = SEAL_SIZE | 0x0008
"""The above and F_SEAL_WRITE."""


def seal(descriptor: int, seals: int) -> None:
    """Add seals to a memfd (memfd_create(2)); raise ``OSError`` if the kernel rejects them."""
    import fcntl

    fcntl.fcntl(descriptor, getattr(fcntl, "F_ADD_SEALS", 1033), seals)


# -- frames -----------------------------------------------------------------------------------------


class Channel:
    """One end of the connection between parent and worker. Not thread-safe.

    This side writes the region ``outgoing`` and reads ``incoming``. With ``views``, as in workers, large values are
    views of shared memory; the parent copies them, because a worker could change them while the parent reads. With
    ``views``, calls by fixed frames (:mod:`aegis.isolation.protocol.scalar_frames`) are also returned, as bytes; the
    parent rejects such a frame. Unless ``patient``, receiving checks every :data:`CHECK_SECONDS` seconds whether to
    give up. A ``patient`` side, the worker, receives while it waits to send a long message: notices do not alternate,
    so the other side may wait to send one too.
    """

    budget: int | None = None
    """Bytes of memory that a received value may take, and bytes of its frame. ``None``: the value is unlimited, the
    frame has at most 256 MiB."""
    frames = 0
    """Number of frames that this side has sent."""

    def __init__(
        self, end: _socket.socket, outgoing: SharedRegion | None = None, incoming: SharedRegion | None = None, *,
        views: bool = False, patient: bool = False,
    ) -> None:  # fmt: skip
        self.socket, self.outgoing, self.incoming, self._views = end, outgoing, incoming, views
        self._receives = patient
        self._held = b""
        """Frames that the next message takes along."""
        self._buffer = bytearray()
        end.settimeout(None)
        self.recv_bytes = spinning_receive(end)
        # With timeouts of the socket, a message takes one system call; with poll(2) before it, it would take three.
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _SPAN)
        if not patient:
            end.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, _SPAN)

    def fileno(self) -> int:
        """Return the socket's descriptor, to poll."""
        return self.socket.fileno()

    def send(
        self, message: Any, descriptors: Sequence[int] = (), *, until: float | None = None,
        stopped: Callable[[], bool] | None = None, notice: bool = False,
    ) -> None:  # fmt: skip
        """Send one value, with open descriptors.

        Raise ``TypeError`` before sending anything if it is not plain data; :class:`Disconnected` if the other side is
        gone; :class:`ChannelTimeout` at ``until`` (monotonic), or if ``stopped``, called while the other side does not
        receive, returns ``True``.

        Two kinds of messages do not use shared memory: those with descriptors, because the receiver does not have the
        memory yet, and a ``notice``, because the other side may not have read it when this side sends the next message.
        """
        region = None if descriptors or notice else self.outgoing
        try:
            body = encode(message, region)
        finally:
            if region is not None:
                region.reuse()
        if len(body) > _MAX_FRAME_BYTES:
            raise TypeError(f"message too long ({len(body):,}/{_MAX_FRAME_BYTES:,} bytes)")
        data = _FRAME.pack(len(body)) + body
        if self._held:
            data, self._held = self._held + data, b""
        self.push(data, descriptors, until=until, stopped=stopped)

    def hold(self, message: Any) -> None:
        """Send a notice together with the next message, or by :meth:`flush`: the other side wakes up once."""
        body = encode(message)
        self._held += _FRAME.pack(len(body)) + body

    def flush(self, *, until: float | None = None, stopped: Callable[[], bool] | None = None) -> None:
        """Send the notices that are held; raise as :meth:`send` does."""
        if self._held:
            data, self._held = self._held, b""
            self.push(data, until=until, stopped=stopped)

    def push(
        self, data: bytes | bytearray, descriptors: Sequence[int] = (), *, until: float | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        """Send the bytes of a frame, or the rest of one; raise as :meth:`send` does."""
        self.frames += 1
        late = _late(until, stopped)
        sent = self._put(data, descriptors, late)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                if until is not None and time.monotonic() >= until:
                    raise ChannelTimeout
                rest = rest[self._put(rest, (), late) :]

    def _wait_to_send(self) -> None:
        """Wait until the socket accepts more; store bytes that arrive meanwhile."""
        poller = select.poll()
        poller.register(self.socket.fileno(), select.POLLIN | select.POLLOUT)
        ((_, events),) = poller.poll() or ((0, 0),)
        if events & select.POLLIN:
            data = self.socket.recv(_CHUNK_BYTES, _socket.MSG_DONTWAIT)
            if not data:
                raise Disconnected("the other side is gone")
            self._buffer += data

    def _put(self, data: Any, descriptors: Sequence[int], late: Callable[[], bool]) -> int:
        while True:
            try:
                if descriptors:
                    rights = array.array("i", descriptors)
                    return self.socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
                if self._receives and len(data) > _CHUNK_BYTES:
                    return self.socket.send(data, NO_SIGNAL | _socket.MSG_DONTWAIT)
                return self.socket.send(data, NO_SIGNAL)
            except BlockingIOError:
                if self._receives:
                    self._wait_to_send()
                if late():
                    raise ChannelTimeout from None
            except OSError as error:
                raise Disconnected(f"the other side is gone: {error.strerror}") from None

    def recv(self, until: float | None = None, stopped: Callable[[], bool] | None = None) -> Any:
        """Return the next value.

        Raise :class:`Disconnected` at the end of the stream; :class:`ProtocolError` for a malformed frame;
        :class:`ChannelTimeout` at ``until`` (monotonic), or if ``stopped``, called regularly, returns ``True``.
        """
        buffer = self._buffer
        while True:
            if len(buffer) >= 4:
                size = _FRAME.unpack_from(buffer)[0]
                if size > (_UNBUDGETED_FRAME_BYTES if self.budget is None else self.budget):
                    raise ProtocolError(f"a frame of {size:,} bytes")
                if len(buffer) >= size + 4:
                    return self._take(size, _late(until, stopped) if size > _CHUNK_BYTES else None)
            self._buffer += self.receive(until, stopped)
            if until is not None and time.monotonic() >= until:
                raise ChannelTimeout  # a side that sends a byte from time to time cannot extend the wait

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
        """Return whether a value, or a part of one, has been received and not been read."""
        return bool(self._buffer)

    def readable(self) -> bool:
        """Return whether a value, or a part of one, has arrived, or the other side is gone."""
        if self._buffer:
            return True
        poller = select.poll()
        poller.register(self.socket.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    def receive(self, until: float | None = None, stopped: Callable[[], bool] | None = None) -> bytes:
        """Return the next bytes from the socket; raise as :meth:`recv` does. Nothing may be :meth:`waiting`."""
        while True:
            try:
                data = self.recv_bytes(_CHUNK_BYTES)
                break
            except BlockingIOError:
                if _late(until, stopped)():
                    raise ChannelTimeout from None
            except OSError as error:
                raise Disconnected(f"the other side is gone: {error.strerror}") from None
        if not data:
            raise Disconnected("the other side is gone")
        return data

    def unread(self, data: bytes) -> None:
        """Return bytes to the buffer, which :meth:`receive` returned; :meth:`recv` reads them next."""
        self._buffer += data

    def recv_with(self, most: int) -> tuple[Any, list[int]]:
        """Return the next value, and at most ``most`` descriptors that came with it; for a worker's setup message."""
        data, descriptors = _received(self.socket, most)
        if not data:
            for descriptor in descriptors:
                os.close(descriptor)
            raise Disconnected("the other side is gone")
        self._buffer += data
        return self.recv(), descriptors

    def close(self) -> None:
        """Close this end and unmap its regions."""
        self.socket.close()
        for region in (self.outgoing, self.incoming):
            if region is not None:
                region.close()


def _received(end: _socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Return the bytes of one recvmsg(2), and at most ``most`` descriptors."""
    held = array.array("i")
    data, ancillary, _, _ = end.recvmsg(_CHUNK_BYTES, _socket.CMSG_LEN(most * held.itemsize))
    for level, kind, raw in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            held.frombytes(raw[: len(raw) - len(raw) % held.itemsize])
    return data, list(held)


def _late(until: float | None, stopped: Callable[[], bool] | None) -> Callable[[], bool]:
    """Return a function that returns whether ``until`` (monotonic) has passed or ``stopped`` returns ``True``."""
    return lambda: (until is not None and time.monotonic() >= until) or (stopped is not None and stopped())


CHECK_SECONDS = 0.05
"""Seconds between two checks whether a wait must end."""
_SPAN = struct.pack("@ll", 0, int(CHECK_SECONDS * 1_000_000))
NO_SIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)
"""Flag of a send that must not raise SIGPIPE if the other side is gone."""
