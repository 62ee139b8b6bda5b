"""Which hosts a guest may reach, and where it may listen: the verdict on a name, and on one address.

Nothing here resolves a name or opens a socket. Whoever does asks :meth:`NetworkCapability.decide`
twice: for the name, before it is looked up, and for each address that it has, before it is dialled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegis.errors import PolicyError
from aegis.policy import addresses
from aegis.policy.patterns import IMPLIED_PORTS, MOST_PORT, NetworkPattern, host_name, read_host, wrong
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.policy.addresses import Address

__all__ = ["NetworkCapability", "NetworkPattern", "NetworkVerdict"]


@dataclass(frozen=True, slots=True)
class NetworkVerdict:
    """Whether the network may be used so, and the rule, or the lack of one, that says it.

    A verdict is true when it allows.
    """

    allowed: bool
    rule: str

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True, init=False)
class NetworkCapability:
    """What a guest may reach (``allow``, less ``deny``) and where it may ``listen``; empty is nothing.

    Each takes patterns, or text that is parsed as one. In ``deny`` the port may be left out, which means every port.

    Deny wins over ``allow``. A denied *name* is denied as a whole, whatever scheme or port its rule has: the name is
    not looked up, and an address that it is found to have, as the target of an alias, is not reached over any transport
    until the sandbox ends; connections to it are closed. An address that no look-up connects with the name stays as
    the other rules have it: deny it by IP or CIDR too.

    A denied *IP, CIDR or class* is denied at the ports of its rule: ``udp`` over UDP; ``tcp`` over TCP, which carries
    HTTP; ``http`` and ``https`` over TCP and over UDP, which carries HTTP/3; without a scheme over all of them. It
    keeps such peers from connecting, or sending datagrams, to a listening guest too. ``deny`` does not restrict the
    addresses at which the guest listens: those are named by ``listen``.
    """

    allow: tuple[NetworkPattern, ...]
    deny: tuple[NetworkPattern, ...]
    listen: tuple[NetworkPattern, ...]

    def __init__(
        self,
        *,
        allow: Iterable[str | NetworkPattern] = (),
        deny: Iterable[str | NetworkPattern] = (),
        listen: Iterable[str | NetworkPattern] = (),
    ) -> None:
        for name, value in (("allow", allow), ("deny", deny), ("listen", listen)):
            object.__setattr__(self, name, _patterns(value, name))
        for pattern in self.deny + self.listen:
            if pattern.method is not None:
                raise wrong(
                    str(pattern), "names a method, which only a rule that allows does; allow the others instead"
                )
        for pattern in self.allow + self.listen:
            if pattern.is_tunnel():
                raise wrong(
                    str(pattern), "is 6to4 or Teredo, judged by the IPv4 addresses within; name those, or deny it"
                )
        for pattern in self.allow + self.deny:
            if pattern.ports == (0, 0):
                raise wrong(str(pattern), "names port 0, at which nothing is reached; write :* for every port")
        for pattern in self.listen:
            if pattern.kind in ("name", "beneath"):
                raise wrong(
                    str(pattern), "listens at a name; write an IP such as tcp://127.0.0.1:8080, a CIDR or local"
                )

    def __add__(self, other: NetworkCapability) -> NetworkCapability:
        return NetworkCapability(
            allow=self.allow + other.allow, deny=self.deny + other.deny, listen=self.listen + other.listen
        )

    def decide(
        self, scheme: str, host: str, port: int, *, address: str | None = None, method: str | None = None
    ) -> NetworkVerdict:
        """Judge reaching ``host`` at ``port``; ``address`` is the one of its addresses that is to be dialled.

        ``method`` is that of the HTTP request which is to be made; without one, no rule for a method fits.

        For a name without an address the verdict says whether the name may be looked up for this. That it is
        allowed does not mean that every address is: a name alone permits only a public one.
        """
        fault = _fault(scheme, port)
        if fault:
            return NetworkVerdict(False, fault)
        found = read_host(host)
        name = None if found is not None else host_name(host)
        if found is None and name is None:
            return NetworkVerdict(False, f"'{printable(host, 80)}' is not a host")
        if address is not None:
            given = addresses.read_address(address)
            if given is None or (found is not None and given != found):
                return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address of {printable(host, 80)}")
            found = given
        return self._judge(scheme, port, name, found, method)

    def decide_lookup(self, host: str) -> NetworkVerdict:
        """Judge looking up a name, for whatever may then be reached at it.

        A rule must let it be looked up (:class:`NetworkPattern`); each address that it turns out to have is then
        judged by itself. To look up a name tells the resolver of it, which is why no rule means no lookup.
        """
        name = host_name(host)
        if name is None:
            return NetworkVerdict(False, f"'{printable(host, 80)}' is not a host name")
        denial = self.denial_of(name)
        if denial is not None:
            return NetworkVerdict(False, f"deny {denial}")
        for rule in self.allow:
            if rule.lets_look_up(name):
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, f"nothing allows {name}")

    def denial_of(self, name: str) -> NetworkPattern | None:
        """Return the rule that denies a host name, which is normalised; ``None`` if none does."""
        return next((rule for rule in self.deny if rule.fits_name(name)), None)

    def decide_answer(self, host: str, address: str) -> NetworkVerdict:
        """Judge an address that the name ``host`` has: may anything be reached there, at any port?"""
        found, name = addresses.read_address(address), host_name(host)
        if found is None or name is None:
            return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address of {printable(host, 80)}")
        carried = addresses.judged(found)
        for rule in self.deny:
            whole = rule.scheme is None and rule.ports == (0, MOST_PORT)
            if rule.fits_name(name) or (whole and _denies_address(rule, found, carried)):
                return NetworkVerdict(False, f"deny {rule}")
        public = addresses.address_class(carried) == "public"
        for rule in self.allow:
            if rule.fits_address(carried) or (public and rule.fits_name(name)):
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, _closed(name, carried))

    def decide_peer(self, scheme: str, address: str, port: int) -> NetworkVerdict:
        """Judge a peer that reached a listening guest: ``deny`` keeps it away, ``listen`` has admitted the others."""
        found = addresses.read_address(address)
        if found is None:
            return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address")
        carried = addresses.judged(found)
        for rule in self.deny:
            if rule.keeps_from(scheme, port) and _denies_address(rule, found, carried):
                return NetworkVerdict(False, f"deny {rule}")
        return NetworkVerdict(True, "listen")

    def decide_listen(self, scheme: str, host: str, port: int) -> NetworkVerdict:
        """Judge binding to, and listening at, the address ``host``. Only ``listen`` counts, not ``deny``."""
        fault = _fault(scheme, port)
        if fault:
            return NetworkVerdict(False, fault)
        found = addresses.read_address(host)
        if found is None:
            return NetworkVerdict(False, f"'{printable(host, 80)}' is not an address to listen at")
        address = addresses.judged(found)
        for rule in self.listen:
            if rule.fits_port(scheme, port) and rule.fits_address(address):
                return NetworkVerdict(True, f"listen {rule}")
        return NetworkVerdict(False, _nothing("listening at", scheme, str(address), port))

    def describe(self) -> list[str]:
        """Return one line for each rule that grants, and then for each that takes away."""
        lines = [f"network {rule}" for rule in self.allow] + [f"network listening at {rule}" for rule in self.listen]
        return lines + [f"network never {rule}" for rule in self.deny]

    def _judge(
        self, scheme: str, port: int, name: str | None, found: Address | None, method: str | None
    ) -> NetworkVerdict:
        address = None if found is None else addresses.judged(found)
        for rule in self.deny:
            named = name is not None and rule.fits_name(name)
            if named or (rule.keeps_from(scheme, port) and _denies_address(rule, found, address)):
                return NetworkVerdict(False, f"deny {rule}")
        fitting = [rule for rule in self.allow if rule.fits_port(scheme, port) and rule.fits_method(method)]
        if address is None:
            return self._judge_name(fitting, scheme, name or "", port, method)
        public = addresses.address_class(address) == "public"
        for rule in fitting:
            if rule.fits_address(address) or (public and name is not None and rule.fits_name(name)):
                return NetworkVerdict(True, f"allow {rule}")
        if name is not None and any(rule.fits_name(name) for rule in fitting):
            return NetworkVerdict(False, _closed(name, address))
        return NetworkVerdict(False, _nothing("allows", scheme, name or str(address), port, method))

    def _judge_name(
        self, fitting: list[NetworkPattern], scheme: str, name: str, port: int, method: str | None
    ) -> NetworkVerdict:
        for rule in fitting:
            if rule.lets_look_up(name):
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, _nothing("allows", scheme, name, port, method))


def _patterns(value: object, what: str) -> tuple[NetworkPattern, ...]:
    if isinstance(value, (str, NetworkPattern)) or not isinstance(value, Iterable):
        raise PolicyError(f'network: {what} is a list of patterns, such as ["https://api.example.com"]')
    parsed = (
        item if isinstance(item, NetworkPattern) else NetworkPattern.parse(item, any_port=what == "deny")
        for item in value
    )
    return tuple(dict.fromkeys(parsed))


def _fault(scheme: str, port: int) -> str | None:
    if scheme not in IMPLIED_PORTS:
        return f"'{printable(scheme, 80)}' is not a scheme that a rule can name"
    return None if 0 <= port <= MOST_PORT else f"{port} is not a port"


def _denies_address(rule: NetworkPattern, found: Address | None, address: Address | None) -> bool:
    """Tell whether a rule names the address as it was given, or the one that it carries."""
    return any(a is not None and rule.fits_address(a) for a in (found, address))


def _nothing(what: str, scheme: str, host: str, port: int, method: str | None = None) -> str:
    shown = f"[{host}]" if ":" in host else host
    asked = f"{printable(method, 32)} " if method else "" if what == "allows" else f"{what} "
    return f"nothing allows {asked}{scheme}://{shown}:{port}"


def _closed(name: str, address: Address) -> str:
    named = addresses.named_by(address)
    by = "by IP or CIDR" if named is None else f"as {named}, by IP or CIDR"
    kind = addresses.address_class(address)
    return f"{name} is allowed, but {address} is a {kind} address, which a rule must name {by}"
