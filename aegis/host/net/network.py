"""The network of one sandbox: its sockets and look-ups, each judged by the policy.

Every socket and every look-up passes through here. A connection goes to an address that was judged, never to a name: a
name is looked up here, once, and its addresses are judged one by one. The sandbox remembers which name an address came
from (:mod:`aegis.host.net.verdicts`), so that a rule for the name covers the connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from aegis.errors import QuotaExceeded
from aegis.host.net.null_socket import NullSocket
from aegis.host.net.resolver import Resolver, resolvers, system_resolver
from aegis.host.net.sockets import GUEST_CONNECTION, Address, Opener, Purpose, SystemSockets
from aegis.host.net.verdicts import ANSWERS_JUDGED, NetworkJudge
from aegis.limits import Limits, exceeded
from aegis.policy.network import NetworkCapability, NetworkVerdict
from aegis.policy.patterns import request_pattern
from aegis.support.descriptors import above_standard
from aegis.values import CallScope, Decision

__all__ = ["LOOKUPS_AT_ONCE", "Lookup", "Network", "Resolver", "shown", "withheld_decision"]

LOOKUPS_AT_ONCE = 4
"""Look-ups that one sandbox may have under way at the same time."""


def shown(host: str, port: int) -> str:
    """Return an address and port in the notation of patterns: IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Closable(Protocol):
    """An exchange that can be ended."""

    def close(self) -> None: ...


class Network:
    """The network as one sandbox may use it, with its open sockets and its counters."""

    def __init__(
        self,
        capability: NetworkCapability | None,
        limits: Limits,
        scope: CallScope,
        resolver: Resolver = system_resolver,
        begin: Callable[[str], Lookup] | None = None,
        opener: Opener | None = None,
    ) -> None:
        self._capability = capability or NetworkCapability()
        self.limits, self.scope = limits, scope
        self._reaches = bool(self._capability.allow or self._capability.listen)
        self._opener = opener if opener is not None and self._reaches else SystemSockets()
        self.resolver = resolver
        self._begin = begin or (lambda name: SystemLookup(self.resolver, name))
        self._judge = NetworkJudge(self._capability)
        self._open: set[socket.socket] = set()
        self._peers: dict[socket.socket, str] = {}
        """The addresses to which sockets connect, or are connected."""
        self._lookups: set[Lookup] = set()
        self._connections = self._bytes = 0
        self.tls: Any = None
        """The TLS context by which HTTP verifies servers; ``None`` for the system's roots of trust."""
        self.exchanges: set[Closable] = set()
        """HTTP exchanges under way."""
        self.address_timeout = 3.0
        """Seconds that HTTP waits for a connection to one address of a name before it tries the next."""

    # -- decisions -----------------------------------------------------------------------------------

    def may_connect(self, scheme: str, host: str, port: int) -> bool:
        """Judge a connection to the address ``host``, by itself and by names resolved to it; record the decision."""
        return self._recorded("connect to", scheme, host, port, self._judge.connect(scheme, host, port))

    def may_listen(self, scheme: str, host: str, port: int) -> bool:
        """Judge binding to, and listening at, an address; record the decision."""
        return self._recorded("listen at", scheme, host, port, self._judge.listen(scheme, host, port))

    def may_accept(self, scheme: str, host: str, port: int) -> bool:
        """Judge a peer that connected to a listening socket; record a denial."""
        verdict = self._judge.accept(scheme, host, port)
        return bool(verdict) or self._recorded("accept", scheme, host, port, verdict)

    def may_hear(self, host: str, port: int, *, listening: bool = False) -> bool:
        """Judge the sender of a datagram: it must be allowed, or on a ``listening`` socket not denied.

        The decision is not recorded, since any peer can cause any number of them.
        """
        judge = self._judge.accept if listening else self._judge.connect
        return bool(judge("udp", host, port))

    def may_look_up(self, name: str) -> bool:
        """Judge looking up a name; record the decision."""
        verdict = self._judge.look_up(name)
        if not verdict or self.scope.listens:
            self.scope.decided(
                Decision(
                    capability="network", action="look up", target=name, allowed=bool(verdict),
                    rule=verdict.rule, wanted="" if verdict else name,
                )
            )  # fmt: skip
        return bool(verdict)

    def may_request(self, scheme: str, host: str, port: int, method: str) -> bool:
        """Judge an HTTP request to a host, by name or address; record the decision."""
        verdict = self._judge.request(scheme, host, port, method)
        return self._recorded("request", scheme, host, port, verdict, method)

    def vetted(self, scheme: str, host: str, port: int, method: str, answers: list[str]) -> list[str]:
        """Return those addresses of a name that a request may connect to; record one denial if there is none."""
        resolved = self._resolved(host, answers)[:ANSWERS_JUDGED]
        verdicts = [(a, self._judge.dial(scheme, host, port, method, a)) for a in resolved]
        allowed = [address for address, verdict in verdicts if verdict]
        if not allowed and answers:
            address, verdict = verdicts[0] if verdicts else (answers[0], self._judge.answer(host, answers[0]))
            self._recorded("connect to", scheme, address, port, verdict, method)
        return allowed

    def _recorded(
        self, action: str, scheme: str, host: str, port: int, verdict: NetworkVerdict, method: str | None = None
    ) -> bool:
        if not verdict or self.scope.listens:
            target = f"{scheme}://{shown(host, port)}"
            self.scope.decided(
                Decision(
                    capability="network", action=action, target=target, allowed=bool(verdict), rule=verdict.rule,
                    wanted="" if verdict else request_pattern(method, target),
                )
            )  # fmt: skip
        return bool(verdict)

    # -- names ---------------------------------------------------------------------------------------

    def look_up(self, name: str) -> Lookup:
        """Begin to look up a name that was judged; raise ``OSError`` when too many look-ups are under way."""
        if self.full() or not self.may_begin_lookup():
            raise OSError("too many names are being looked up")
        lookup = self._begin(name)
        self._lookups.add(lookup)
        return lookup

    def may_begin_lookup(self) -> bool:
        """Return whether fewer look-ups are under way than a sandbox may have at the same time."""
        self._drop_finished()
        return len(self._lookups) < LOOKUPS_AT_ONCE

    def answered(self, lookup: Lookup) -> list[str]:
        """Return the addresses of a finished look-up that the policy allows, and remember their name."""
        self._lookups.discard(lookup)
        if lookup.withheld:
            self.close_withheld(lookup)
            return []
        resolved = self._resolved(lookup.name, lookup.addresses)
        found = self._judge.permitted(lookup.name, resolved, self.limits.resolver_answers)
        if lookup.addresses and not found:
            self.scope.decided(withheld_decision(self._judge, lookup.name, lookup.addresses[0]))
        return found

    def close_withheld(self, lookup: Lookup) -> None:
        """Deny the addresses of a look-up whose answers were withheld, as far as they are known."""
        self._resolved(lookup.name, lookup.addresses)

    def _resolved(self, name: str, answers: list[str]) -> list[str]:
        """Return the addresses of a name, none if a rule denies it; then shut down connections to its addresses."""
        resolved = self._judge.resolved(name, answers)
        if answers and not resolved:
            for opened in self._open:
                with contextlib.suppress(OSError):  # not connected, or no longer
                    if self._judge.is_closed(self._peer(opened)):
                        opened.shutdown(socket.SHUT_RDWR)  # ends also an attempt to connect
        return resolved

    def _peer(self, opened: socket.socket) -> str:
        """Return the address to which a socket connects or is connected; the system knows that of an accepted one."""
        return self._peers.get(opened) or str(opened.getpeername()[0]).partition("%")[0]

    def forget(self, lookup: Lookup) -> None:
        """Close a look-up that the guest dropped. It counts as long as it occupies a resolver thread."""
        lookup.close()
        self._drop_finished()

    def _drop_finished(self) -> None:
        self._lookups -= {lookup for lookup in self._lookups if lookup.done and lookup.descriptor < 0}

    # -- sockets -------------------------------------------------------------------------------------

    def open(self, family: int, kind: int) -> socket.socket | None:
        """Return a new non-blocking socket, ``None`` when the limit ``sockets`` is reached."""
        if self.full():
            return None
        if not self._reaches:
            return self.adopt(cast(socket.socket, NullSocket(family, kind)))
        return self.adopt(self._opener.open(family, kind))

    def full(self) -> bool:
        """Return whether the limit ``sockets`` is reached; look-ups under way count too."""
        self._drop_finished()
        limit = self.limits.sockets
        return limit is not None and len(self._open) + len(self._lookups) >= limit

    def adopt(self, opened: socket.socket) -> socket.socket:
        """Register a socket, which is closed with the sandbox at the latest."""
        opened.setblocking(False)
        self._open.add(opened)
        return opened

    def close_socket(self, opened: socket.socket) -> None:
        """Close a socket."""
        self._open.discard(opened)
        self._peers.pop(opened, None)
        self._opener.close(opened)

    def bind(self, opened: socket.socket, address: Address) -> None:
        """Bind a socket to a local address that was judged."""
        self._opener.bind(opened, address)

    def listen(self, opened: socket.socket, backlog: int) -> None:
        """Make a bound socket listen, at an address that was judged."""
        self._opener.listen(opened, backlog)

    def connect(self, opened: socket.socket, address: Address, purpose: Purpose = GUEST_CONNECTION) -> int:
        """Begin to connect to an address that was judged; return the error number of the attempt."""
        self._peers[opened] = str(address[0]).partition("%")[0]
        return self._opener.connect(opened, address, purpose)

    def send_datagram(self, opened: socket.socket, data: bytes, address: Address) -> None:
        """Send a datagram to an address that was judged; one without room in the socket's buffer is not counted."""
        self.charge(len(data))
        try:
            self._opener.send(opened, data, address)
        except BlockingIOError:
            self.charge(-len(data))
            raise

    def receive_datagram(self, opened: socket.socket, *, listening: bool = False) -> tuple[bytes, Address] | None:
        """Return the next datagram and its sender, ``None`` in place of one that the policy denies.

        Raise ``BlockingIOError`` when there is none. Denied datagrams count against ``network_bytes`` too.
        """
        size, sender, data = self._opener.receive(opened)
        self.charge(size)
        if data is None:
            return None
        host, port = str(sender[0]).partition("%")[0], int(sender[1])
        return (data, sender) if self.may_hear(host, port, listening=listening) else None

    def room(self, opened: socket.socket) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the descriptors that become readable, and those that become writable, when a socket can send."""
        return self._opener.room(opened)

    def connecting(self) -> None:
        """Count one more connection; raise ``QuotaExceeded`` beyond the limit ``connections``."""
        self._connections += 1
        limit = self.limits.connections
        if limit is not None and self._connections > limit:
            used = self._connections
            raise QuotaExceeded(exceeded("connections", used, limit), limit="connections", used=used, allowed=limit)

    def charge(self, count: int) -> None:
        """Count bytes sent or received; raise ``QuotaExceeded`` beyond the limit ``network_bytes``."""
        self._bytes += count
        limit = self.limits.network_bytes
        if limit is not None and self._bytes > limit:
            used = self._bytes
            raise QuotaExceeded(exceeded("network_bytes", used, limit), limit="network_bytes", used=used, allowed=limit)

    def close(self) -> None:
        """Close all exchanges, sockets and look-ups."""
        for exchange in list(self.exchanges):
            exchange.close()
        while self._open:
            self._open.pop().close()
        while self._lookups:
            self._lookups.pop().close()


class Lookup(Protocol):
    """A look-up of a name, under way or finished."""

    name: str
    addresses: list[str]
    error: OSError | None
    withheld: bool
    """Whether the name has addresses of which the guest may know none. ``addresses`` then has those to deny."""
    descriptor: int
    """A descriptor that becomes readable when the look-up is done, or earlier; negative after ``close``."""

    @property
    def done(self) -> bool:
        """Whether it is finished: answered, or withdrawn before a thread began it."""
        ...

    def close(self) -> None:
        """Stop waiting for the answer and close the descriptor."""
        ...


class SystemLookup:
    """A look-up by the system's resolver, on a thread of :data:`~aegis.host.net.resolver.resolvers`."""

    withheld = False

    def __init__(self, resolver: Resolver, name: str) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.error: OSError | None = None
        self.done = False
        self._lock = threading.RLock()
        self.descriptor, self._writing = map(above_standard, os.pipe())
        try:
            self._question = resolvers.ask(name, resolver, self._answered)
        except OSError:
            self._close_pipe()
            raise

    def _answered(self, addresses: list[str], error: OSError | None) -> None:
        with self._lock:
            self.addresses, self.error, self.done = addresses, error, True
            writing, self._writing = self._writing, -1
            if writing >= 0:
                os.close(writing)

    def close(self) -> None:
        """Close both ends of the pipe at once, so that an abandoned look-up keeps no descriptor open."""
        if resolvers.withdraw(self._question):
            self.done = True
        self._close_pipe()

    def _close_pipe(self) -> None:
        with self._lock:
            ends = self.descriptor, self._writing
            self.descriptor = self._writing = -1
        for end in ends:
            if end >= 0:
                os.close(end)


def withheld_decision(judge: NetworkJudge, name: str, address: str) -> Decision:
    """Return the denial of a name because the guest may know none of its addresses; ``address`` is the first."""
    return Decision(
        capability="network", action="look up", target=name, allowed=False, rule=judge.answer(name, address).rule,
        wanted=judge.missing(name, address),
    )  # fmt: skip
