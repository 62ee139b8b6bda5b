"""Network patterns: the grammar of one rule, and the normalised notation in which hosts are compared."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aegis.errors import PolicyError
from aegis.policy import addresses
from aegis.policy.hostnames import HostNameError, ascii_form, checked_name
from aegis.text import printable

if TYPE_CHECKING:
    from aegis.policy.addresses import Address, Network

__all__ = [
    "IMPLIED_PORTS",
    "MAX_PORT",
    "NetworkPattern",
    "host_name",
    "invalid",
    "plain_host",
    "read_host",
    "request_pattern",
]

IMPLIED_PORTS = {"tcp": None, "udp": None, "http": 80, "https": 443}
"""The supported schemes and their default ports."""
MAX_PORT = 65535
_COVERED = {"tcp": ("tcp", "http", "https"), "udp": ("udp",), "http": ("http",), "https": ("https",)}
_HTTP_DENIED = ("tcp", "http", "https", "udp")
_DENIED_WITH = {"tcp": _COVERED["tcp"], "udp": _COVERED["udp"], "http": _HTTP_DENIED, "https": _HTTP_DENIED}
"""The schemes that a denial of each scheme covers: TCP carries HTTP/1 and HTTP/2, UDP carries HTTP/3 (RFC 9114)."""
_OF_METHODS = ("http", "https")
_METHOD = re.compile("[A-Z][A-Z-]{0,31}")
_MAX_PATTERN_CHARACTERS = 1000
_OWN_NAME = "localhost"
_PATH = "has a path, which patterns do not support: end the pattern after the host and port"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPattern:
    """One network rule.

    The notation is ``[METHOD ][scheme://](host | *.host | IP | CIDR | public | private | local)[:port | :lo-hi | :*]``.

    Without a scheme the pattern matches every scheme; ``tcp`` includes ``http`` and ``https``. A method in capitals is
    possible for ``http`` and ``https`` in ``allow`` and restricts the pattern to requests with that method. ``*.host``
    matches every name beneath ``host``, but not ``host`` itself. ``private`` is RFC 1918, unique local and
    carrier-grade NAT addresses; ``local`` is loopback and link-local addresses; ``public`` is all addresses outside the
    special-purpose registries. Cloud metadata, multicast, unspecified and reserved addresses are in none of the three.

    A pattern also decides which names may be resolved. A pattern with a name permits resolving it. ``public`` permits
    every name, because a guest that reaches any public host can send it the name anyway. ``local`` permits only
    ``localhost``, because any other name would leave the machine. ``private``, an IP and a CIDR permit none: a name
    inside a private network needs one pattern for the name and one for its address.

    Raise :class:`~aegis.errors.PolicyError` for an invalid method, scheme, host or port range.

    >>> NetworkPattern.parse("https://api.example.com").ports
    (443, 443)
    """

    method: str | None = None
    scheme: str | None = None
    host: str
    ports: tuple[int, int]
    kind: str = field(init=False, repr=False, compare=False)
    """``name``, ``beneath``, ``class`` or ``network``."""
    _network: Network | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for text in (self.host, self.scheme or "", self.method or ""):
            if not isinstance(text, str):
                raise PolicyError(f"network: method, scheme and host must be text, not {type(text).__name__}")
        _check_scheme(self.scheme)
        if self.method is not None and (self.scheme not in _OF_METHODS or not _METHOD.fullmatch(self.method)):
            raise invalid(self.method, "is not a method of an http or https pattern: write GET https://a.example")
        if not isinstance(self.ports, tuple):
            raise PolicyError(f"network: ports must be a pair, such as (443, 443), not {type(self.ports).__name__}")
        if not _is_range(self.ports):
            shown = "-".join(map(str, self.ports))
            raise invalid(shown, "is not a range of ports: give two ports from 0 to 65535, lower first")
        kind, host, network = _host(self.host)
        for name, value in (("host", host), ("kind", kind), ("_network", network)):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str, *, any_port: bool = False) -> NetworkPattern:
        """Parse a pattern; with ``any_port`` a pattern without a port matches every port, whatever its scheme."""
        if not isinstance(text, str):
            raise PolicyError(
                f"network: a pattern must be text, such as https://api.example.com, not {type(text).__name__}"
            )
        if len(text) > _MAX_PATTERN_CHARACTERS:
            raise invalid(text, f"is longer than a pattern may be ({len(text)}/{_MAX_PATTERN_CHARACTERS} characters)")
        method, _, rest = text.rpartition(" ")
        if not _METHOD.fullmatch(method):
            method, rest = "", text
        scheme, rest = _split_scheme(rest)
        _check_scheme(scheme)
        host, port = _split_port(rest, text)
        if not host:
            raise invalid(text, "has no host: write a name, *.name, an IP, a CIDR, public, private or local")
        _host(host)  # report an invalid host before a missing port
        ports = _ports(port, text) if port is not None else _implied(scheme, text, any_port=any_port)
        return cls(method=method or None, scheme=scheme, host=host, ports=ports)

    def __str__(self) -> str:
        return self._notation(IMPLIED_PORTS[self.scheme] if self.scheme else None)

    def with_ports(self) -> str:
        """Return the notation with the ports, which mean the same in ``allow`` and in ``deny``."""
        return self._notation(None)

    def _notation(self, implied: int | None) -> str:
        host = self.host
        if ":" in host:
            host = f"[{host}]"
        scheme = f"{self.method} " if self.method else ""
        scheme += f"{self.scheme}://" if self.scheme else ""
        low, high = self.ports
        if low == high == implied:
            return f"{scheme}{host}"
        port = "*" if (low, high) == (0, MAX_PORT) else str(low) if low == high else f"{low}-{high}"
        return f"{scheme}{host}:{port}"

    def fits_port(self, scheme: str, port: int) -> bool:
        """Return whether the pattern matches this scheme and port."""
        covered = self.scheme is None or scheme in _COVERED[self.scheme]
        return covered and self.ports[0] <= port <= self.ports[1]

    def fits_method(self, method: str | None) -> bool:
        """Return whether the pattern matches requests of this method; ``None`` is a use that is no HTTP request."""
        return self.method is None or self.method == method

    def keeps_from(self, scheme: str, port: int) -> bool:
        """Return whether the pattern, in ``deny``, matches this scheme and port.

        A denial covers every transport that can carry its scheme.
        """
        covered = self.scheme is None or scheme in _DENIED_WITH[self.scheme]
        return covered and self.ports[0] <= port <= self.ports[1]

    def lets_look_up(self, name: str) -> bool:
        """Return whether the pattern, in ``allow``, permits resolving this normalised host name."""
        if self.kind != "class":
            return self.fits_name(name)
        own = name == _OWN_NAME or name.endswith(f".{_OWN_NAME}")
        return self.host == "public" or (self.host == "local" and own)

    def fits_name(self, name: str) -> bool:
        """Return whether the pattern matches this normalised host name."""
        if self.kind == "beneath":
            return name.endswith(self.host[1:])
        return self.kind == "name" and name == self.host

    def is_tunnel(self) -> bool:
        """Return whether the pattern covers only 6to4 or Teredo addresses, which are judged by an embedded address."""
        return self._network is not None and addresses.is_tunnel(self._network)

    def fits_address(self, address: Address) -> bool:
        """Return whether the pattern matches this address by class, IP or CIDR."""
        if self.kind == "class":
            return addresses.named_by(address) == self.host
        return self._network is not None and address in self._network


def invalid(text: str, message: str) -> PolicyError:
    """Return the error for a pattern, or the part ``text`` of one; ``message`` is a predicate."""
    return PolicyError(f"network: '{printable(text, 80)}' {message}")


def request_pattern(method: str | None, target: str) -> str:
    """Return the pattern of one request to ``target``; without its method if patterns cannot name it."""
    return f"{method} {target}" if method is not None and _METHOD.fullmatch(method) else target


def _is_range(ports: tuple[int, ...]) -> bool:
    whole = len(ports) == 2 and all(type(port) is int for port in ports)
    return whole and 0 <= ports[0] <= ports[1] <= MAX_PORT


def _check_scheme(scheme: str | None) -> None:
    if scheme is not None and scheme not in IMPLIED_PORTS:
        raise invalid(scheme, f"is not a scheme: use {', '.join(IMPLIED_PORTS)}, or none for all of them")


def _split_scheme(text: str) -> tuple[str | None, str]:
    scheme, mark, rest = text.partition("://")
    return (scheme.lower(), rest) if mark else (None, text)


def _split_port(rest: str, text: str) -> tuple[str, str | None]:
    if rest.startswith("["):
        inner, mark, tail = rest[1:].partition("]")
        if not mark or ":" not in inner:
            raise invalid(text, "has brackets without an IPv6 address: write [2001:db8::1]:443")
        size, colon, port = tail.partition(":")
        if size and not size.startswith("/"):
            raise invalid(text, "has text other than a port after the bracket: write [2001:db8::1]:443")
        return inner + size, port if colon else None
    if rest.count(":") > 1:
        raise invalid(text, "has more than one colon: write an IPv6 address in brackets, such as [2001:db8::1]:443")
    host, colon, port = rest.partition(":")
    return host, port if colon else None


def _implied(scheme: str | None, text: str, *, any_port: bool) -> tuple[int, int]:
    """Return the ports of a pattern without a port."""
    port = IMPLIED_PORTS.get(scheme) if scheme else None
    if any_port:
        return 0, MAX_PORT
    if port is None:
        raise invalid(text, f"has no port: write {printable(text)}:443, a range such as :8000-8080, or :* for all")
    return port, port


def _ports(port: str, text: str) -> tuple[int, int]:
    if port == "*":
        return 0, MAX_PORT
    if "/" in port:
        raise invalid(text, _PATH)
    low, mark, high = port.partition("-")
    if not _is_port(low) or (mark and not _is_port(high)):
        raise invalid(text, "does not end in a port: write :443, a range such as :8000-8080, or :* for all")
    first, last = int(low), int(high if mark else low)
    if max(first, last) > MAX_PORT:
        raise invalid(text, f"has port {max(first, last)}; the highest port is {MAX_PORT}")
    if first > last:
        raise invalid(text, f"has a range of ports in descending order: write :{last}-{first}")
    return first, last


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


# -- hosts --------------------------------------------------------------------------------------


def _host(text: str) -> tuple[str, str, Network | None]:
    """Return the kind of a pattern's host, the normalised host, and its network if it has one."""
    lower = text.lower()
    if lower in addresses.CLASSES:
        return "class", lower, None
    if "/" in text:
        network = _cidr(text)
        return "network", _network_text(network), network
    if "%" in text and ":" in text:
        raise invalid(text, "has a zone: remove it, because a pattern applies to every interface")
    if text.startswith("*."):
        return "beneath", f"*.{_pattern_name(text[2:], text)}", None
    if ":" in text or addresses.ends_in_number(_ascii(text) or ""):
        network = _single(text)
        return "network", _network_text(network), network
    name = _pattern_name(text, text)
    if name in addresses.CLASSES:
        raise invalid(text, f"is a name that normalises to a class: write {name} for the class")
    return "name", name, None


def _network_text(network: Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _cidr(text: str) -> Network:
    from ipaddress import ip_network

    base, _, size = text.partition("/")
    if not size.isascii() or not size.isdigit():
        raise invalid(text, _PATH)
    bits = 128 if ":" in base else 32
    if len(size) > 3 or int(size) > bits:
        raise invalid(text, f"has a prefix of more than {bits} bits: write it like 10.0.0.0/8 or [2001:db8::/32]")
    try:
        return addresses.plain_network(ip_network(f"{base}/{size}"))
    except ValueError:
        pass
    try:
        tidy = ip_network(f"{base}/{size}", strict=False)
    except ValueError:
        raise invalid(text, "is not a network: write it like 10.0.0.0/8 or [2001:db8::/32]") from None
    raise invalid(text, f"is an address inside a network: write {tidy} for the network") from None


def _single(text: str) -> Network:
    from ipaddress import ip_network

    address = read_host(text)
    if address is None:
        raise invalid(text, "is not an address: write it like 192.0.2.1 or [2001:db8::1]")
    return ip_network(addresses.judged(address))


def _pattern_name(text: str, whole: str) -> str:
    if "*" in text:
        raise invalid(whole, "has a '*' that is not its whole first label: write *.example.com, or public for any host")
    try:
        name = checked_name(text)
    except HostNameError as error:
        raise invalid(whole, str(error)) from None
    if addresses.ends_in_number(name):
        raise invalid(whole, "is not a host: write a name, *.name, an IP, a CIDR, public, private or local")
    return name


def read_host(text: str) -> Address | None:
    """Parse ``text`` as an address in any notation; return ``None`` for other text."""
    return addresses.read_address(_ascii(text) or text)


def plain_host(text: str) -> str | None:
    """Return an address or a host name in its normalised notation, or ``None`` for other text.

    An IPv4 address in any notation, or mapped into IPv6, becomes dotted decimal.
    """
    found = read_host(text)
    if found is None:
        return host_name(text)
    return str(getattr(found, "ipv4_mapped", None) or found)


def _ascii(text: str) -> str | None:
    """Return a host in the form that is compared, or ``None`` if it has no ASCII form."""
    try:
        return ascii_form(text)
    except HostNameError:
        return None


def host_name(text: str) -> str | None:
    """Return ``text`` as a normalised host name, or ``None`` if it is not a host name."""
    try:
        name = checked_name(text)
    except HostNameError:
        return None
    return None if addresses.ends_in_number(name) else name
