"""Stand-ins in a worker for the parent's side: functions of the embedder, the resolver, and setting file times."""

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
    """Calls a host function in the parent and returns its result; raises the function's error."""

    def __call__(self, number: int, values: list[Any]) -> Any: ...


def core_function(wanted: Any, number: int, ask: Ask) -> HostFunction:
    """Return a host function that forwards calls of the core import ``wanted`` to the embedder's function."""

    def call(*values: Any) -> Any:
        result = ask(number, list(values))
        return tuple(result) if isinstance(result, list) else result

    return HostFunction(module=wanted.module, name=wanted.name, type=wanted.type, call=call)


class RemoteLookups:
    """Name look-ups that the parent performs. ``ask`` sends number and name; packets on ``descriptor`` are answers."""

    def __init__(self, descriptor: int, ask: Callable[[int, str], None]) -> None:
        self.descriptor, self._ask = descriptor, ask
        self._open: dict[int, RemoteLookup] = {}
        self._next = 0

    def begin(self, name: str) -> RemoteLookup:
        """Request a look-up without waiting for its answer."""
        number, self._next = self._next, self._next + 1
        lookup = self._open[number] = RemoteLookup(self, name)
        self._ask(number, name)
        return lookup

    def receive(self) -> None:
        """Receive all answers that have arrived and store each with its look-up."""
        while True:
            try:
                packet = os.read(self.descriptor, _PACKET_BYTES)
            except BlockingIOError:
                return
            if not packet:  # the parent closed its end, because the sandbox is about to end
                while self._open:
                    self._open.popitem()[1].answer([], False, _socket.EAI_FAIL)
                return
            number, addresses, withheld, failed = decode(packet)
            self._open.pop(number).answer(addresses, withheld, failed)


class RemoteLookup:
    """One look-up by the parent.

    All look-ups of a sandbox share one descriptor, so a readable descriptor does not imply that this one is done.
    """

    def __init__(self, lookups: RemoteLookups, name: str) -> None:
        self._lookups, self.name = lookups, name
        self.addresses: list[str] = []
        self.error: OSError | None = None
        self.withheld = False
        self.descriptor = lookups.descriptor
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the answer has arrived."""
        if not self._done:
            self._lookups.receive()
        return self._done

    def answer(self, addresses: list[str], withheld: bool, failed: int | None) -> None:
        """Store the answer."""
        self.addresses, self.withheld = addresses, withheld
        self.error = None if failed is None else _socket.gaierror(failed, "the look-up failed")
        self._done = True

    def close(self) -> None:
        """Stop waiting. The look-up still counts towards the limit until the parent answers."""
        self.descriptor = -1


class RemoteTimes:
    """Sets file times through the parent.

    The file's descriptor is sent on the socket ``descriptor`` first; ``ask`` then sends the name and the times.
    """

    def __init__(self, descriptor: int, ask: Callable[[str | None, tuple[int, int]], int | None]) -> None:
        self._descriptor, self._ask = descriptor, ask

    def __call__(self, descriptor: int, times: tuple[int, int], name: str | None) -> None:
        """Set the times of an open file, or of the entry ``name`` of an open directory; raise ``OSError``."""
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
