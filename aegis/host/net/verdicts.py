"""The verdicts on the network uses of one sandbox: the policy, and the names that this sandbox has resolved.

A rule for a name covers the addresses that the name was resolved to. An allowed name allows the sockets of this sandbox
to reach them; a denied name denies them, over every transport and until the sandbox ends. All transports ask the one
:class:`NetworkJudge` of their sandbox, and every finished look-up passes through it, in whichever process the name was
resolved.
"""

from __future__ import annotations

from collections.abc import Iterable

from aegis.host.net.sockets import Purpose
from aegis.policy import addresses
from aegis.policy.network import NetworkCapability, NetworkVerdict
from aegis.policy.patterns import host_name, plain_host, read_host
from aegis.text import printable

__all__ = ["ANSWERS_JUDGED", "NetworkJudge"]

_ADDRESSES_KEPT, _NAMES_KEPT = 4096, 16
_DENIED_ADDRESSES = 16384
ANSWERS_JUDGED = 64
"""Answers of one look-up that are judged: each is compared with all rules, and a name may have any number."""


class NetworkJudge:
    """Judge each use of the network by one sandbox.

    ``_names`` drops its oldest entries, since forgetting a name can only deny addresses. ``_denied`` drops none: when
    it is full, further look-ups are denied.
    """

    def __init__(self, capability: NetworkCapability) -> None:
        self._capability = capability
        self._names: dict[str, dict[str, None]] = {}
        self._denied: dict[addresses.Address, str] = {}

    # -- verdicts ------------------------------------------------------------------------------------

    def connect(self, scheme: str, host: str, port: int) -> NetworkVerdict:
        """Judge a connection to an address, by itself and by names that were resolved to it."""
        denied = self._denial(host)
        if denied is not None:
            return denied
        verdict = self._capability.decide(scheme, host, port)
        for name in () if verdict else self._names.get(host, ()):
            verdict = self._capability.decide(scheme, name, port, address=host)
            if verdict:
                break
        return verdict

    def request(self, scheme: str, host: str, port: int, method: str) -> NetworkVerdict:
        """Judge an HTTP request to a host, by name or address."""
        denied = self._denial(host)
        denied = self._full(host) if denied is None else denied
        return self._capability.decide(scheme, host, port, method=method) if denied is None else denied

    def dial(self, scheme: str, name: str, port: int, method: str, address: str) -> NetworkVerdict:
        """Judge one address of the name that an HTTP request is for."""
        denied = self._denial(address)
        if denied is not None:
            return denied
        return self._capability.decide(scheme, name, port, address=address, method=method)

    def reach(self, purpose: Purpose, address: str, port: int) -> NetworkVerdict:
        """Judge a connection to ``address`` by its stated purpose, which an untrusted worker may have stated.

        An HTTP request to a name may go to the addresses that this sandbox resolved the name to, and to no others.
        """
        if purpose.name:
            scheme, host, method = purpose.scheme, purpose.name, purpose.method or ""
            found = read_host(host)
            name = host_name(host)
            if found is not None and found == addresses.read_address(address):
                return self.request(scheme, host, port, method)
            if name is None or name not in self._names.get(address, ()):
                return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address of {printable(host, 80)}")
            return self.dial(scheme, name, port, method, address)
        return self.connect(purpose.scheme, address, port)

    def accept(self, scheme: str, host: str, port: int) -> NetworkVerdict:
        """Judge a peer that connected to a listening socket."""
        denied = self._denial(host)
        return self._capability.decide_peer(scheme, host, port) if denied is None else denied

    def listen(self, scheme: str, host: str, port: int) -> NetworkVerdict:
        """Judge binding to, and listening at, an address."""
        return self._capability.decide_listen(scheme, host, port)

    def look_up(self, name: str) -> NetworkVerdict:
        """Judge looking a name up."""
        full = self._full(name)
        return self._capability.decide_lookup(name) if full is None else full

    def is_closed(self, host: str) -> bool:
        """Return whether a denied name was resolved to this address."""
        return self._denial(host) is not None

    def _denial(self, host: str) -> NetworkVerdict | None:
        """Return the denial of an address that a denied name was resolved to, or that belongs to no host."""
        found = read_host(host)
        if found is None:
            return None
        address = addresses.judged(found)
        if address.is_unspecified:  # in spite of any rule that contains it: Linux connects it to loopback
            return NetworkVerdict(False, f"deny {found}: it is the address of no host, and leads to loopback")
        rule = self._denied.get(address)
        return None if rule is None else NetworkVerdict(False, rule)

    def _full(self, host: str) -> NetworkVerdict | None:
        """Return the denial of a name when no further addresses of denied names can be stored."""
        if len(self._denied) < _DENIED_ADDRESSES or read_host(host) is not None:
            return None
        used = f"{len(self._denied):,}/{_DENIED_ADDRESSES:,}"
        return NetworkVerdict(False, f"deny further names: too many addresses of denied names ({used})")

    # -- look-ups ------------------------------------------------------------------------------------

    def resolved(self, name: str, answers: Iterable[str]) -> list[str]:
        """Return the addresses among ``answers``, none if the name or an alias of it is denied.

        ``answers`` holds addresses, and may hold the names that ``name`` is an alias of.
        """
        read = [(answer, addresses.read_address(answer)) for answer in answers]
        rule = self._denied_by([name, *(answer for answer, address in read if address is None)])
        if rule is None:
            return [answer for answer, address in read if address is not None]
        for _, address in read:
            if address is not None:
                self._denied[addresses.judged(address)] = rule
        return []

    def _denied_by(self, names: list[str]) -> str | None:
        for given in names:
            name = host_name(given)
            denial = None if name is None else self._capability.denial_of(name)
            if denial is not None:
                return f"deny {denial}"
        return None

    def permitted(self, name: str, answers: list[str], most: int | None) -> list[str]:
        """Return those addresses of a name that sockets may reach, ``most`` at the most, and remember their name.

        They are in the notation of socket addresses, in whichever notation the resolver returned them.
        """
        considered = answers if most is None else answers[: max(most, ANSWERS_JUDGED)]
        allowed = [a for a in considered if self.answer(name, a)]
        found = list(dict.fromkeys(str(plain_host(address)) for address in allowed))[:most]
        for address in found:
            self._remember(address, name)
        return found

    def answer(self, name: str, address: str) -> NetworkVerdict:
        """Judge an address that a name was resolved to: is a connection to it allowed at any port?"""
        denied = self._denial(address)
        return self._capability.decide_answer(name, address) if denied is None else denied

    def missing(self, name: str, address: str) -> str:
        """Return the grant that an answer of a look-up lacks: a pattern, or the address alone."""
        return self._capability.missing_for(name, address)

    def _remember(self, address: str, name: str) -> None:
        """Store which name an address came from: the latest addresses, and the latest names of each."""
        names = self._names.pop(address, {})
        names.pop(name, None)
        self._names[address] = names
        names[name] = None
        for kept, most in ((names, _NAMES_KEPT), (self._names, _ADDRESSES_KEPT)):
            if len(kept) > most:
                del kept[next(iter(kept))]
