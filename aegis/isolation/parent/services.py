"""In the parent: what it does for one worker, beside host functions, because the worker itself may not."""

from __future__ import annotations

from collections.abc import Sequence

from aegis.isolation.protocol.channel import Broken
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
    """Look-ups and sockets where a network is granted, and times of files where ``preopens`` grant writing."""

    def __init__(self, policy: Policy, preopens: Sequence[Preopen]) -> None:
        self.lookups: LookupService | None = None
        self.sockets: SocketService | None = None
        self.times: TimeService | None = None
        if any(path.write for path in policy.filesystem.paths):
            from aegis.isolation.parent.timestamps import TimeService

            self.times = TimeService(preopens)
        if policy.network is not None:
            from aegis.isolation.parent.lookups import LookupService  # loads what only a network needs
            from aegis.isolation.parent.sockets import SocketService

            self.sockets = SocketService(policy.network, policy.limits)
            self.lookups = LookupService(self.sockets, policy.limits)

    def resolve(self, message: list[Any], door: Door) -> None:
        """Serve a look-up; raise :class:`Broken` where no network is granted."""
        if self.lookups is None:
            raise Broken("a look-up without a network")
        self.lookups.serve(message, door)

    def direct_socket(self, message: list[Any], door: Door) -> tuple[int | None, Any]:
        """Serve a request about a socket; return its number, ``None`` where no answer is due, and the answer."""
        if self.sockets is None or len(message) < 3 or not (message[1] is None or type(message[1]) is int):
            raise Broken("a socket without a network")
        return message[1], self.sockets.serve(message[2:], door)

    def set_times(self, message: list[Any]) -> tuple[int, int | None]:
        """Serve a request to set times; return its number and the error number of a failure."""
        if self.times is None or len(message) != 5 or type(message[1]) is not int:
            raise Broken("times of files without a grant for writing")
        _, mine, name, access, change = message
        return mine, self.times.serve(name, access, change)

    def record(self, door: Door) -> None:
        """Record what was denied meanwhile."""
        if self.lookups is not None:
            self.lookups.record(door)

    def handed_over(self) -> None:
        """Close the worker's ends: it has its own copies now."""
        for service in (self.lookups, self.sockets, self.times):
            if service is not None:
                service.worker_end.close()

    def close(self) -> None:
        """Stop serving."""
        for service in (self.lookups, self.sockets, self.times):
            if service is not None:
                service.close()
