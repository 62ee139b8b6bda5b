"""Services of the parent for one worker: operations that the worker's confinement denies, except host functions."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.isolation.protocol.channel import ProtocolError
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.host.files.preopens import Preopen
    from aegis.isolation.parent.lookups import LookupService
    from aegis.isolation.parent.sockets import SocketService
    from aegis.isolation.parent.timestamps import TimeService
    from aegis.policy import Policy

__all__ = ["Services"]


class Services:
    """Look-ups and sockets if the policy grants a network, and file times if it grants writable files."""

    def __init__(self, policy: Policy, preopens: Sequence[Preopen]) -> None:
        self.lookups: LookupService | None = None
        self.sockets: SocketService | None = None
        self.times: TimeService | None = None
        if any(path.write for path in policy.filesystem.paths):
            from aegis.isolation.parent.timestamps import TimeService

            self.times = TimeService(preopens)
        if policy.network is not None:
            from aegis.isolation.parent.lookups import LookupService  # imports modules that only a network needs
            from aegis.isolation.parent.sockets import SocketService

            self.sockets = SocketService(policy.network, policy.limits)
            self.lookups = LookupService(self.sockets, policy.limits)

    def resolve(self, message: list[Any], door: Door) -> None:
        """Serve a look-up; raise :class:`ProtocolError` if no network is granted."""
        if self.lookups is None:
            raise ProtocolError("look-up without a network grant")
        self.lookups.serve(message, door)

    def direct_socket(self, message: list[Any], door: Door) -> tuple[int | None, Any]:
        """Serve a socket request; return the answer and the request's number, ``None`` if it expects no answer."""
        if self.sockets is None or len(message) < 3 or not (message[1] is None or type(message[1]) is int):
            raise ProtocolError("malformed socket request, or no network grant")
        return message[1], self.sockets.serve(message[2:], door)

    def set_times(self, message: list[Any]) -> tuple[int, int | None]:
        """Serve a request to set file times; return its number, and the error number of a failure or ``None``."""
        if self.times is None or len(message) != 5 or type(message[1]) is not int:
            raise ProtocolError("malformed request to set file times, or no writable grant")
        _, request, name, access, change = message
        return request, self.times.serve(name, access, change)

    def record(self, door: Door) -> None:
        """Record denials of resolved addresses since the last call."""
        if self.lookups is not None:
            self.lookups.record(door)

    def handed_over(self) -> None:
        """Close the parent's copies of the worker's ends, after the worker has received its own."""
        for service in (self.lookups, self.sockets, self.times):
            if service is not None:
                service.worker_end.close()

    def close(self) -> None:
        """Stop serving."""
        for service in (self.lookups, self.sockets, self.times):
            if service is not None:
                service.close()
