"""Which hosts a guest may reach, and where it may listen: patterns, and the verdict on one address.

Nothing here resolves a name or opens a socket. Whoever does asks :meth:`NetworkCapability.decide`
twice: for the name, before it is looked up, and for each address that it has, before it is dialled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aegis.errors import PolicyError
from aegis.names import printable
from aegis.policy import addresses

if TYPE_CHECKING:
    from aegis.policy.addresses import Address, Network

__all__ = ["NetworkCapability", "NetworkPattern", "NetworkVerdict"]

_IMPLIED = {"tcp": None, "udp": None, "http": 80, "https": 443}
_COVERED = {"tcp": ("tcp", "http", "https"), "udp": ("udp",), "http": ("http",), "https": ("https",)}
_MOST_PORT = 65535
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_MOST_NAME = 253
_MOST_PATTERN = 1000


@dataclass(frozen=True, slots=True)
class NetworkVerdict:
    """Whether the network may be used so, and the rule, or the lack of one, that says it.

    A verdict is true when it allows.
    """

    allowed: bool
    rule: str

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPattern:
    """One rule: ``[scheme://](host | *.host | IP | CIDR | public | private | local)[:port | :lo-hi | :*]``.

    Without a scheme it is for every one; ``tcp`` covers ``http`` and ``https``, which run over it.
    ``*.host`` is any name beneath ``host``, not ``host`` itself. ``private`` is RFC 1918, unique local
    and carrier-grade NAT addresses, ``local`` loopback and link-local ones, ``public`` what is in no
    closed class. Cloud metadata, multicast, unspecified and reserved addresses are in none of the three.
    """

    scheme: str | None = None
    host: str
    ports: tuple[int, int]
    kind: str = field(init=False, repr=False, compare=False)
    """``name``, ``beneath``, ``class`` or ``network``."""
    _network: Network | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.scheme is not None and self.scheme not in _IMPLIED:
            raise _wrong(self.scheme, f"is not a scheme; use {', '.join(_IMPLIED)}, or none for all of them")
        low, high = self.ports
        if not 0 <= low <= high <= _MOST_PORT:
            raise _wrong(f"{low}-{high}", "is not a range of ports; the least is 0, the most 65535, lower first")
        kind, host, network = _host(self.host)
        for name, value in (("host", host), ("kind", kind), ("_network", network)):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str, *, any_port: bool = False) -> NetworkPattern:
        """Parse a pattern. With ``any_port`` one that names no port is for every port, whatever its scheme."""
        if not isinstance(text, str):
            raise PolicyError(f"network: a pattern is text, such as https://api.example.com, not {type(text).__name__}")
        if len(text) > _MOST_PATTERN:
            raise _wrong(text, f"is longer than {_MOST_PATTERN} characters, which no pattern is")
        scheme, rest = _split_scheme(text)
        host, port = _split_port(rest, text)
        if not host:
            raise _wrong(text, "names no host; write a name, *.name, an IP, a CIDR, public, private or local")
        implied = _IMPLIED.get(scheme) if scheme else None
        if port is not None:
            ports = _ports(port, text)
        elif any_port:
            ports = (0, _MOST_PORT)
        elif implied is not None:
            ports = (implied, implied)
        else:
            raise _wrong(text, f"names no port; write {printable(text)}:443, a range such as :8000-8080, or :* for all")
        return cls(scheme=scheme, host=host, ports=ports)

    def __str__(self) -> str:
        host = self.host
        if ":" in host:
            host = f"[{host}]"
        scheme = "" if self.scheme is None else f"{self.scheme}://"
        low, high = self.ports
        if low == high == (_IMPLIED[self.scheme] if self.scheme else None):
            return f"{scheme}{host}"
        port = "*" if (low, high) == (0, _MOST_PORT) else str(low) if low == high else f"{low}-{high}"
        return f"{scheme}{host}:{port}"

    def fits_port(self, scheme: str, port: int) -> bool:
        """Tell whether the pattern is for this scheme and port."""
        covered = self.scheme is None or scheme in _COVERED[self.scheme]
        return covered and self.ports[0] <= port <= self.ports[1]

    def keeps_from(self, scheme: str, port: int) -> bool:
        """Tell whether the pattern, as a denial, is for this scheme and port.

        What is denied over ``https`` is denied over ``tcp`` too, which could carry it.
        """
        reached = self.fits_port(scheme, port)
        return reached or (self.scheme in _COVERED[scheme] and self.ports[0] <= port <= self.ports[1])

    def fits_name(self, name: str) -> bool:
        """Tell whether the pattern names this host name, which is normalised."""
        if self.kind == "beneath":
            return name.endswith(self.host[1:])
        return self.kind == "name" and name == self.host

    def fits_address(self, address: Address) -> bool:
        """Tell whether the pattern names this address by its class, by IP or by CIDR."""
        if self.kind == "class":
            return addresses.named_by(address) == self.host
        return self._network is not None and address in self._network


def _wrong(text: str, message: str) -> PolicyError:
    return PolicyError(f"network: '{printable(text, 80)}' {message}")


def _split_scheme(text: str) -> tuple[str | None, str]:
    scheme, mark, rest = text.partition("://")
    return (scheme.lower(), rest) if mark else (None, text)


def _split_port(rest: str, text: str) -> tuple[str, str | None]:
    if rest.startswith("["):
        inner, mark, tail = rest[1:].partition("]")
        if not mark or ":" not in inner:
            raise _wrong(text, "has brackets that hold no IPv6 address; write [2001:db8::1]:443")
        size, colon, port = tail.partition(":")
        if size and not size.startswith("/"):
            raise _wrong(text, "has something other than a port after the bracket; write [2001:db8::1]:443")
        return inner + size, port if colon else None
    if rest.count(":") > 1:
        raise _wrong(text, "has more than one colon; write an IPv6 address in brackets, such as [2001:db8::1]:443")
    host, colon, port = rest.partition(":")
    return host, port if colon else None


def _ports(port: str, text: str) -> tuple[int, int]:
    if port == "*":
        return 0, _MOST_PORT
    low, mark, high = port.partition("-")
    if not _is_port(low) or (mark and not _is_port(high)):
        raise _wrong(text, "ends in no port; write :443, a range such as :8000-8080, or :* for all")
    return int(low), int(high if mark else low)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


# -- hosts --------------------------------------------------------------------------------------


def _host(text: str) -> tuple[str, str, Network | None]:
    """Return the kind of a pattern's host, the host normalised, and its network if it has one."""
    lower = text.lower()
    if lower in addresses.CLASSES:
        return "class", lower, None
    if "/" in text:
        network = _cidr(text)
        return "network", _network_text(network), network
    if "%" in text and ":" in text:
        raise _wrong(text, "has a zone; leave it out, a rule is for every interface")
    if text.startswith("*."):
        return "beneath", f"*.{_pattern_name(text[2:], text)}", None
    if ":" in text or addresses.ends_in_number(_ascii(text) or ""):
        network = _single(text)
        return "network", _network_text(network), network
    name = _pattern_name(text, text)
    if name in addresses.CLASSES:
        raise _wrong(text, f"looks like a name and reads like a class; write {name} for the class")
    return "name", name, None


def _network_text(network: Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _cidr(text: str) -> Network:
    from ipaddress import ip_network

    base, _, size = text.partition("/")
    if not size.isascii() or not size.isdigit():
        raise _wrong(text, "has a path, which no pattern has; leave out what follows the host and the port")
    try:
        return addresses.plain_network(ip_network(f"{base}/{size}"))
    except ValueError:
        pass
    try:
        tidy = ip_network(f"{base}/{size}", strict=False)
    except ValueError:
        raise _wrong(text, "is not a network; write it like 10.0.0.0/8 or [2001:db8::/32]") from None
    raise _wrong(text, f"is an address within a network; write {tidy} for the network") from None


def _single(text: str) -> Network:
    from ipaddress import ip_network

    address = addresses.read_address(_ascii(text) or text)
    if address is None:
        raise _wrong(text, "is not an address; write it like 192.0.2.1 or [2001:db8::1]")
    return ip_network(addresses.judged(address))


def _pattern_name(text: str, whole: str) -> str:
    if "*" in text:
        raise _wrong(whole, "has a '*' that is not its whole first label; write *.example.com, or public for any host")
    name = _name(text)
    if name is None:
        raise _wrong(whole, "is not a host; write a name, *.name, an IP, a CIDR, public, private or local")
    return name


def _ascii(text: str) -> str | None:
    """Return a host in lower case, IDNA-normalised, without one trailing dot; ``None`` if it has no such form."""
    if len(text) > _MOST_PATTERN:
        return None
    try:
        name = text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return name.removesuffix(".")


def _name(text: str) -> str | None:
    """Return a host name, normalised, or ``None`` if ``text`` is none."""
    name = _ascii(text)
    if not name or len(name) > _MOST_NAME or addresses.ends_in_number(name):
        return None
    return name if all(_is_label(label) for label in name.split(".")) else None


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and set(label) <= _LABEL and not label.startswith("-") and not label.endswith("-")


# -- decisions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, init=False)
class NetworkCapability:
    """What a guest may reach (``allow``, less ``deny``) and where it may ``listen``; empty is nothing.

    Each takes patterns, or text that is parsed as one. In ``deny`` the port may be left out, and all
    are meant; a denial of ``http`` or ``https`` is one of ``tcp`` too.
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
        for pattern in self.listen:
            if pattern.kind in ("name", "beneath"):
                raise _wrong(
                    str(pattern), "listens at a name; write an IP such as tcp://127.0.0.1:8080, a CIDR or local"
                )

    def __add__(self, other: NetworkCapability) -> NetworkCapability:
        return NetworkCapability(
            allow=self.allow + other.allow, deny=self.deny + other.deny, listen=self.listen + other.listen
        )

    def decide(self, scheme: str, host: str, port: int, *, address: str | None = None) -> NetworkVerdict:
        """Judge reaching ``host`` at ``port``; ``address`` is the one of its addresses that is to be dialled.

        For a name without an address the verdict says whether the name may be looked up: a rule names
        it, or a class in which its addresses may lie. That it is allowed does not mean that every
        address is: a name alone permits only a public one.
        """
        fault = _fault(scheme, port)
        if fault:
            return NetworkVerdict(False, fault)
        found = addresses.read_address(_ascii(host) or host)
        name = None if found is not None else _name(host)
        if found is None and name is None:
            return NetworkVerdict(False, f"'{printable(host, 80)}' is not a host")
        if address is not None:
            given = addresses.read_address(address)
            if given is None or (found is not None and given != found):
                return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address of {printable(host, 80)}")
            found = given
        return self._judge(scheme, port, name, found)

    def decide_lookup(self, host: str) -> NetworkVerdict:
        """Judge looking up a name, for whatever may then be reached at it.

        A rule must name it, or a class: then each address that it turns out to have is judged by itself. To
        look up a name tells the resolver of it, which is why no rule means no lookup.
        """
        name = _name(host)
        if name is None:
            return NetworkVerdict(False, f"'{printable(host, 80)}' is not a host name")
        for rule in self.deny:
            if rule.fits_name(name) and rule.scheme is None and rule.ports == (0, _MOST_PORT):
                return NetworkVerdict(False, f"deny {rule}")
        for rule in self.allow:
            if rule.fits_name(name) or rule.kind == "class":
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, f"nothing allows {name}")

    def decide_answer(self, host: str, address: str) -> NetworkVerdict:
        """Judge an address that the name ``host`` has: may anything be reached there, at any port?"""
        found, name = addresses.read_address(address), _name(host)
        if found is None or name is None:
            return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address of {printable(host, 80)}")
        carried = addresses.judged(found)
        for rule in self.deny:
            if rule.scheme is None and rule.ports == (0, _MOST_PORT) and _denies(rule, name, found, carried):
                return NetworkVerdict(False, f"deny {rule}")
        public = addresses.address_class(carried) == "public"
        for rule in self.allow:
            if rule.fits_address(carried) or (public and rule.fits_name(name)):
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, _closed(name, carried))

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

    def _judge(self, scheme: str, port: int, name: str | None, found: Address | None) -> NetworkVerdict:
        address = None if found is None else addresses.judged(found)
        for rule in self.deny:
            if rule.keeps_from(scheme, port) and _denies(rule, name, found, address):
                return NetworkVerdict(False, f"deny {rule}")
        fitting = [rule for rule in self.allow if rule.fits_port(scheme, port)]
        if address is None:
            return self._judge_name(fitting, scheme, name or "", port)
        public = addresses.address_class(address) == "public"
        for rule in fitting:
            if rule.fits_address(address) or (public and name is not None and rule.fits_name(name)):
                return NetworkVerdict(True, f"allow {rule}")
        if name is not None and any(rule.fits_name(name) for rule in fitting):
            return NetworkVerdict(False, _closed(name, address))
        return NetworkVerdict(False, _nothing("allows", scheme, name or str(address), port))

    def _judge_name(self, fitting: list[NetworkPattern], scheme: str, name: str, port: int) -> NetworkVerdict:
        for rule in fitting:
            if rule.fits_name(name) or rule.kind == "class":
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, _nothing("allows", scheme, name, port))


def _patterns(value: object, what: str) -> tuple[NetworkPattern, ...]:
    if isinstance(value, (str, NetworkPattern)) or not isinstance(value, Iterable):
        raise PolicyError(f'network: {what} is a list of patterns, such as ["https://api.example.com"]')
    parsed = (
        item if isinstance(item, NetworkPattern) else NetworkPattern.parse(item, any_port=what == "deny")
        for item in value
    )
    return tuple(dict.fromkeys(parsed))


def _fault(scheme: str, port: int) -> str | None:
    if scheme not in _IMPLIED:
        return f"'{printable(scheme, 80)}' is not a scheme that a rule can name"
    return None if 0 <= port <= _MOST_PORT else f"{port} is not a port"


def _denies(rule: NetworkPattern, name: str | None, found: Address | None, address: Address | None) -> bool:
    """Tell whether a rule denies the name, the address as it was given, or the one that it carries."""
    if name is not None and rule.fits_name(name):
        return True
    return any(a is not None and rule.fits_address(a) for a in (found, address))


def _nothing(what: str, scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"nothing allows {'' if what == 'allows' else what + ' '}{scheme}://{shown}:{port}"


def _closed(name: str, address: Address) -> str:
    named = addresses.named_by(address)
    by = "by IP or CIDR" if named is None else f"as {named}, by IP or CIDR"
    kind = addresses.address_class(address)
    return f"{name} is allowed, but {address} is a {kind} address, which a rule must name {by}"
