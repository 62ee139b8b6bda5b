"""In a worker: stand-ins for what lives in the parent: the embedder's functions and objects, and the resolver."""

from __future__ import annotations

import _socket
import os
import stat
from array import array
from collections.abc import Callable

from aegis.isolation.protocol.channel import decode
from aegis.support.lean import Any, Protocol
from aegis.values import HostFunction

__all__ = ["Ask", "RemoteLookups", "RemoteTimes", "core_function"]

_PACKET_BYTES = 1 << 17


class Ask(Protocol):
    """Asks the parent for what a host function answers; raises what it raised."""

    def __call__(self, number: int, values: list[Any]) -> Any: ...


def core_function(wanted: Any, number: int, ask: Ask) -> HostFunction:
    """Return what stands for the embedder's function that serves an import of a core module."""

    def call(*values: Any) -> Any:
        result = ask(number, list(values))
        return tuple(result) if isinstance(result, list) else result

    return HostFunction(module=wanted.module, name=wanted.name, type=wanted.type, call=call)


class RemoteLookups:
    """Look-ups by the parent. ``ask`` sends a number and a name; answers come as packets on ``descriptor``."""

    def __init__(self, descriptor: int, ask: Callable[[int, str], None]) -> None:
        self.descriptor, self._ask = descriptor, ask
        self._open: dict[int, RemoteLookup] = {}
        self._next = 0

    def begin(self, name: str) -> RemoteLookup:
        """Ask for a name; the guest goes on meanwhile."""
        number, self._next = self._next, self._next + 1
        lookup = self._open[number] = RemoteLookup(self, name)
        self._ask(number, name)
        return lookup

    def receive(self) -> None:
        """Take the answers that have come, for whichever look-up."""
        while True:
            try:
                packet = os.read(self.descriptor, _PACKET_BYTES)
            except BlockingIOError:
                return
            if not packet:  # the parent closed its end: the sandbox is about to end
                while self._open:
                    self._open.popitem()[1].answer([], False, _socket.EAI_FAIL)
                return
            number, addresses, withheld, failed = decode(packet)
            self._open.pop(number).answer(addresses, withheld, failed)


class RemoteLookup:
    """A name that the parent looks up. All look-ups of a sandbox share one descriptor, so readable is not done."""

    def __init__(self, lookups: RemoteLookups, name: str) -> None:
        self._lookups, self.name = lookups, name
        self.addresses: list[str] = []
        self.error: OSError | None = None
        self.withheld = False
        self.descriptor = lookups.descriptor
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the answer has come."""
        if not self._done:
            self._lookups.receive()
        return self._done

    def answer(self, addresses: list[str], withheld: bool, failed: int | None) -> None:
        """Take the answer."""
        self.addresses, self.withheld = addresses, withheld
        self.error = None if failed is None else _socket.gaierror(failed, "the look-up failed")
        self._done = True

    def close(self) -> None:
        """Stop waiting. The parent still answers, and until then the look-up counts."""
        self.descriptor = -1


class RemoteTimes:
    """Times of files, set by the parent. ``ask`` sends a name and the times, after the descriptor went by the
    socket ``descriptor``."""

    def __init__(self, descriptor: int, ask: Callable[[str | None, tuple[int, int]], int | None]) -> None:
        self._descriptor, self._ask = descriptor, ask

    def __call__(self, descriptor: int, times: tuple[int, int], name: str | None) -> None:
        """Set the times of an open file or directory, or of a name in a directory; raise ``OSError``."""
        if name is None and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            name = "."
        end = _socket.socket(fileno=os.dup(self._descriptor))
        try:
            end.sendmsg([b"t"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", [descriptor]))])
        finally:
            end.close()
        failed = self._ask(name, times)
        if failed is not None:
            raise OSError(failed, os.strerror(failed))
