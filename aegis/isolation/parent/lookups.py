"""Name resolution in the parent, for a worker that can neither read the resolver's files nor reach a resolver.

The worker requests a look-up on its channel (``["resolve", number, name]``) without waiting. The answer arrives on a
separate socket, one packet for each name, so that the guest can poll for it together with other descriptors. The parent
checks the name against the policy before any resolver sees it, and each address before the worker sees it: even a
compromised worker learns only addresses that the policy permits to its guest.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from functools import partial

from aegis.host.net.network import LOOKUPS_AT_ONCE, withheld_decision
from aegis.host.net.resolver import Question, resolvers, system_resolver
from aegis.isolation.protocol.channel import ProtocolError, encode
from aegis.policy.patterns import host_name
from aegis.support.descriptors import socket_pair
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.values import Decision

if TYPE_CHECKING:
    from aegis.engine.call.door import Door
    from aegis.isolation.parent.sockets import SocketService
    from aegis.limits import Limits

__all__ = ["LookupService"]

_MAX_NAME_CHARACTERS = 253
_MAX_ANSWERS = 1024
"""Addresses in one packet if the policy sets no limit."""
_NUMBER_LIMIT = 1 << 53


class LookupService:
    """Serves the look-ups of one sandbox. ``worker_end`` is the worker's end of the socket, until the worker has it."""

    def __init__(self, sockets: SocketService, limits: Limits) -> None:
        self._sockets, self._limits = sockets, limits
        self._judge, self._lock = sockets.judge, sockets.lock
        self._asked: dict[int, Question | None] = {}
        self._withheld: list[Decision] = []
        # SOCK_SEQPACKET, not SOCK_DGRAM: a datagram socket could be reconnected to any other Unix socket with a path.
        self._socket, self.worker_end = socket_pair(packets=True)
        self._socket.setblocking(False)  # a worker that does not read loses answers instead of blocking the parent
        self.worker_end.setblocking(False)
        self._closer = weakref.finalize(self, _close, self._socket, self.worker_end)

    def serve(self, message: list[Any], door: Door) -> None:
        """Start a look-up for the worker; raise :class:`ProtocolError` for a malformed or excessive request."""
        number, name = self._checked(message)
        door.calls_left -= 1
        if door.calls_left < 0:
            raise ProtocolError("more look-ups than the host-call limit allows")
        with self._lock:
            host, verdict = host_name(name), self._judge.look_up(name)
        if host is None or not verdict:
            door.decided(
                Decision(
                    capability="network", action="look up", target=name, allowed=False, rule=verdict.rule,
                )
            )  # fmt: skip
            self._send(number, [], withheld=True)
            return
        with self._lock:
            if number in self._asked or len(self._asked) >= LOOKUPS_AT_ONCE:
                raise ProtocolError(
                    f"too many concurrent look-ups (more than {LOOKUPS_AT_ONCE}), or a duplicate number"
                )
            self._asked[number] = None
        try:
            # Resolve the normalised name that was checked, not the notation that the worker sent.
            question = resolvers.ask(host, system_resolver, partial(self._answered, number, host))
        except OSError:
            self._answered(number, host, [], socket.gaierror(socket.EAI_AGAIN, "cannot start a resolver thread"))
            return
        with self._lock:
            if number in self._asked:
                self._asked[number] = question

    def _checked(self, message: list[Any]) -> tuple[int, str]:
        if len(message) != 3 or type(message[1]) is not int or type(message[2]) is not str:
            raise ProtocolError("malformed look-up")
        _, number, name = message
        if not 0 <= number < _NUMBER_LIMIT or len(name) > _MAX_NAME_CHARACTERS:
            raise ProtocolError("look-up number or name out of range")
        return number, name

    def _answered(self, number: int, name: str, answers: list[str], error: OSError | None) -> None:
        """Send the permitted addresses to the worker and permit its sockets to use them; runs on a resolver thread.

        If the name is an alias of a denied one, a worker that accepts connections still gets the addresses, marked as
        withheld, because it must reject peers that connect from them.
        """
        most = self._limits.resolver_answers
        with self._lock:
            # Before sending: the worker may request the next look-up as soon as it has this answer.
            self._asked.pop(number, None)
            resolved = self._judge.resolved(name, answers)
            sent = self._judge.permitted(name, resolved, most)
            withheld = bool(answers) and not sent
            if withheld:
                self._withheld.append(withheld_decision(self._judge, name, answers[0]))
            if answers and not resolved:
                self._sockets.hang_up()
                sent = answers if self._sockets.listens else []
        failed = None if error is None else error.errno or socket.EAI_FAIL
        self._send(number, sent[:_MAX_ANSWERS], withheld, failed)

    def _send(self, number: int, addresses: list[str], withheld: bool, failed: int | None = None) -> None:
        packet = encode([number, addresses, withheld, failed])
        with self._lock, contextlib.suppress(OSError):
            self._socket.send(packet, socket.MSG_NOSIGNAL)

    def record(self, door: Door) -> None:
        """Record denials of resolved addresses; called on the thread of the sandbox's call."""
        if self._withheld:
            with self._lock:
                denied, self._withheld = self._withheld, []
            for decision in denied:
                door.decided(decision)

    def close(self) -> None:
        """Withdraw queued look-ups and close the socket; answers still in progress are discarded."""
        with self._lock:
            for question in self._asked.values():
                if question is not None:
                    resolvers.withdraw(question)
            self._closer()


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()
