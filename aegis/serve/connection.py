"""The server's end of the connection to a guest, on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aegis.host.net.http.served_frames import DATA, END, MAX_DATA_BYTES, ServedFrames, frame
from aegis.support.descriptors import socket_pair

if TYPE_CHECKING:
    import socket

__all__ = ["ServerEnd", "connected"]

_RECEIVE_BYTES = 65536

Receive = Callable[[], Awaitable[dict[str, Any]]]


def connected(most: int) -> tuple[ServerEnd, socket.socket]:
    """Return the two ends of a new connection; ``most`` bounds the frames of the guest that have no data, in bytes."""
    near, far = socket_pair()
    near.setblocking(False)
    return ServerEnd(near, most), far


class ServerEnd:
    """Sends the body of a request, and receives the frames of the response. One task sends, another receives."""

    def __init__(self, end: socket.socket, most: int) -> None:
        self._end, self._frames = end, ServedFrames(most)

    async def feed(self, receive: Receive) -> bool:
        """Pass the request's body on, as fast as the guest reads it; return whether the client is gone.

        Return ``False`` when the guest's end is closed: nothing more of the request is wanted.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await receive()
                await asyncio.sleep(0)  # other tasks run, even if neither side ever has to wait
                if message["type"] != "http.request":
                    return True
                body = bytes(message.get("body", b""))
                for at in range(0, len(body), MAX_DATA_BYTES):
                    await loop.sock_sendall(self._end, frame(DATA, body[at : at + MAX_DATA_BYTES]))
                if not message.get("more_body", False):
                    break
            await loop.sock_sendall(self._end, frame(END, b""))
        except OSError:
            return False
        while (await receive())["type"] != "http.disconnect":
            pass
        return True

    async def frames(self) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Yield kind and payload of each frame until the guest's end is closed; raise ``FrameError``."""
        loop = asyncio.get_running_loop()
        while True:
            while (found := self._frames.next()) is not None:
                yield found
            await asyncio.sleep(0)
            try:
                data = await loop.sock_recv(self._end, _RECEIVE_BYTES)
            except OSError:  # the guest's end was closed with a part of the request unread (unix(7))
                return
            if not data:
                return
            self._frames.feed(data)

    def rest(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the frames of the bytes that the guest's end left; raise ``FrameError``."""
        self._frames.feed(data)
        found = []
        while (one := self._frames.next()) is not None:
            found.append(one)
        return found

    def close(self) -> None:
        """Close this end."""
        self._end.close()
