"""The network of one sandbox: sockets, names, and the policy between them and the world.

This is the only place that opens a socket or asks a resolver. What is dialled is an address that was judged,
never a name: a name is looked up here, once, its answers are judged one by one, and the sandbox remembers
which name an address came from (:mod:`aegis.host.judge`), so that a rule for the name covers the connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

from aegis.descriptors import above_standard, socket_above_standard
from aegis.errors import QuotaExceeded
from aegis.host.judge import ANSWERS_JUDGED, NetworkJudge
from aegis.host.nowhere import Nowhere
from aegis.limits import Limits, format_bytes
from aegis.policy.network import NetworkCapability, NetworkVerdict
from aegis.values import CallScope, Decision

__all__ = ["Lookup", "Network", "Resolver", "shown"]

Resolver = Callable[[str], list[str]]
"""Gives the addresses of a name, in order of preference, and may add the names that it is an alias of, which are judged
too; raises ``socket.gaierror``."""

_LOOKUPS = 4


def shown(host: str, port: int) -> str:
    """Return an address and port as a pattern spells them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def system_resolver(name: str) -> list[str]:
    """Ask the system, as any program would; the canonical name, which ends a chain of CNAMEs, comes last."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    answers = [str(entry[4][0]).partition("%")[0] for entry in found]
    return list(dict.fromkeys([*answers, *(entry[3] for entry in found if entry[3])]))


class Closing(Protocol):
    """What can be ended."""

    def close(self) -> None: ...


class Network:
    """What one sandbox may do on the network, and what it has open there."""

    def __init__(
        self,
        capability: NetworkCapability | None,
        limits: Limits,
        scope: CallScope,
        resolver: Resolver = system_resolver,
    ) -> None:
        self._capability = capability or NetworkCapability()
        self.limits, self.scope = limits, scope
        self.resolver = resolver
        self._judge = NetworkJudge(self._capability)
        self._open: set[socket.socket] = set()
        self._lookups: set[Lookup] = set()
        self._connections = self._bytes = 0
        self.tls: Any = None
        """The TLS context that HTTP verifies servers by; ``None`` for the system's roots of trust."""
        self.exchanges: set[Closing] = set()
        """HTTP exchanges under way."""
        self.patience = 3.0
        """Seconds that HTTP waits for one address of a name to answer before it tries the next."""

    # -- decisions -----------------------------------------------------------------------------------

    def may_connect(self, scheme: str, host: str, port: int) -> bool:
        """Judge reaching the address ``host``, by itself or by a name that it was found under; record it."""
        return self._told("connect to", scheme, host, port, self._judge.connect(scheme, host, port))

    def may_listen(self, scheme: str, host: str, port: int) -> bool:
        """Judge binding to, and listening at, an address; record it."""
        return self._told("listen at", scheme, host, port, self._judge.listen(scheme, host, port))

    def may_accept(self, scheme: str, host: str, port: int) -> bool:
        """Judge a peer that reached a socket which a rule lets listen; record a denial."""
        verdict = self._judge.accept(scheme, host, port)
        return bool(verdict) or self._told("accept", scheme, host, port, verdict)

    def may_hear(self, host: str, port: int, *, listening: bool = False) -> bool:
        """Judge the sender of a datagram: allowed, or not denied on a socket that a rule lets listen.

        It is not recorded, since strangers choose how many there are.
        """
        judge = self._judge.accept if listening else self._judge.connect
        return bool(judge("udp", host, port))

    def may_look_up(self, name: str) -> bool:
        """Judge looking up a name; record it."""
        verdict = self._judge.look_up(name)
        if not verdict or self.scope.listens:
            self.scope.decided(
                Decision(
                    capability="network", action="look up", target=name, allowed=bool(verdict),
                    rule=verdict.rule, remedy="" if verdict else f"tcp://{name}:*",
                )
            )  # fmt: skip
        return bool(verdict)

    def may_request(self, scheme: str, host: str, port: int, method: str) -> bool:
        """Judge an HTTP request to a host, by name or address; record it."""
        return self._told("request", scheme, host, port, self._judge.request(scheme, host, port, method))

    def vetted(self, scheme: str, host: str, port: int, method: str, answers: list[str]) -> list[str]:
        """Return those of a name's addresses that may be dialled for a request; record one denial if none may."""
        resolved = self._resolved(host, answers)[:ANSWERS_JUDGED]
        verdicts = [(a, self._judge.dial(scheme, host, port, method, a)) for a in resolved]
        allowed = [address for address, verdict in verdicts if verdict]
        if not allowed and answers:
            address, verdict = verdicts[0] if verdicts else (answers[0], self._judge.answer(host, answers[0]))
            self._told("connect to", scheme, address, port, verdict)
        return allowed

    def _told(self, action: str, scheme: str, host: str, port: int, verdict: NetworkVerdict) -> bool:
        if not verdict or self.scope.listens:
            target = f"{scheme}://{shown(host, port)}"
            self.scope.decided(
                Decision(
                    capability="network", action=action, target=target, allowed=bool(verdict), rule=verdict.rule,
                    remedy="" if verdict else target,
                )
            )  # fmt: skip
        return bool(verdict)

    # -- names ---------------------------------------------------------------------------------------

    def look_up(self, name: str) -> Lookup:
        """Begin to look up a name that may be looked up; raise ``OSError`` when too many are under way."""
        if self.full() or len(self._lookups) >= _LOOKUPS:
            raise OSError("too many names are being looked up")
        lookup = Lookup(self, name)
        self._lookups.add(lookup)
        return lookup

    def answered(self, lookup: Lookup) -> list[str]:
        """Return the addresses of a finished lookup that the policy permits, and remember where they came from."""
        self._lookups.discard(lookup)
        resolved = self._resolved(lookup.name, lookup.addresses)
        found = self._judge.permitted(lookup.name, resolved, self.limits.resolver_answers)
        if lookup.addresses and not found:
            first = lookup.addresses[0]
            verdict = self._judge.answer(lookup.name, first)
            self.scope.decided(
                Decision(
                    capability="network", action="look up", target=lookup.name, allowed=False,
                    rule=verdict.rule, remedy=f"tcp://{shown(first, 0)[:-1]}*",
                )
            )  # fmt: skip
        return found

    def _resolved(self, name: str, answers: list[str]) -> list[str]:
        """Return the addresses of a name that no rule denies; hang up on those that one denies now."""
        resolved = self._judge.resolved(name, answers)
        if answers and not resolved:
            for opened in self._open:
                with contextlib.suppress(OSError):  # it is not connected, or no longer
                    if self._judge.is_closed(str(opened.getpeername()[0]).partition("%")[0]):
                        opened.shutdown(socket.SHUT_RDWR)
        return resolved

    def forget(self, lookup: Lookup) -> None:
        """The guest gave a lookup up. It counts until its thread ends: given up, they would have no limit."""
        lookup.close()
        self._settle()

    def _settle(self) -> None:
        self._lookups -= {lookup for lookup in self._lookups if lookup.done and lookup.descriptor < 0}

    # -- sockets -------------------------------------------------------------------------------------

    def open(self, family: int, kind: int) -> socket.socket | None:
        """Return a new non-blocking socket, ``None`` when all that may be open are."""
        if self.full():
            return None
        capability = self._capability
        if not capability.allow and not capability.listen:
            return self.adopt(cast(socket.socket, Nowhere(family, kind)))
        return self.adopt(socket_above_standard(socket.socket(family, kind)))

    def full(self) -> bool:
        """Tell whether all sockets that may be open are."""
        self._settle()
        limit = self.limits.sockets
        return limit is not None and len(self._open) + len(self._lookups) >= limit

    def adopt(self, opened: socket.socket) -> socket.socket:
        """Keep a socket, to be closed with the sandbox."""
        opened.setblocking(False)
        self._open.add(opened)
        return opened

    def close_socket(self, opened: socket.socket) -> None:
        """Close a socket."""
        self._open.discard(opened)
        opened.close()

    def connecting(self) -> None:
        """Count one more connection; raise ``QuotaExceeded`` when that is one too many."""
        self._connections += 1
        limit = self.limits.connections
        if limit is not None and self._connections > limit:
            raise QuotaExceeded(
                f"the guest made {limit:,} connections, all it may",
                limit="connections", used=self._connections, allowed=limit,
            )  # fmt: skip

    def charge(self, count: int) -> None:
        """Count bytes that went over the network; raise ``QuotaExceeded`` when those are too many."""
        self._bytes += count
        limit = self.limits.network_bytes
        if limit is not None and self._bytes > limit:
            raise QuotaExceeded(
                f"the guest sent and received more than {format_bytes(limit)}, all it may",
                limit="network_bytes", used=self._bytes, allowed=limit,
            )  # fmt: skip

    def close(self) -> None:
        """Close everything."""
        for exchange in list(self.exchanges):
            exchange.close()
        while self._open:
            self._open.pop().close()
        while self._lookups:
            self._lookups.pop().close()


class Lookup:
    """A name being looked up on a thread of its own, for the system's resolver cannot be interrupted.

    ``descriptor`` becomes readable when it is done. A thread that is given up ends by itself, later.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.error: OSError | None = None
        self.done = False
        self.descriptor, self._writing = map(above_standard, os.pipe())
        thread = threading.Thread(target=self._run, args=(network.resolver,), name="aegis-resolver", daemon=True)
        thread.start()

    def _run(self, resolver: Resolver) -> None:
        try:
            self.addresses = resolver(self.name)
        except OSError as error:
            self.error = error
        except Exception:
            self.error = socket.gaierror(socket.EAI_FAIL, "the resolver failed")
        self.done = True
        with contextlib.suppress(OSError):
            os.close(self._writing)

    def close(self) -> None:
        """Let go of the descriptor."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
