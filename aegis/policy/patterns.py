"""Network patterns: the grammar of one rule, and the one notation in which hosts are compared."""

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

__all__ = ["IMPLIED_PORTS", "MOST_PORT", "NetworkPattern", "host_name", "plain_host", "read_host", "wrong"]

IMPLIED_PORTS = {"tcp": None, "udp": None, "http": 80, "https": 443}
"""The schemes, each with the port that it implies."""
MOST_PORT = 65535
"""The greatest port."""
_COVERED = {"tcp": ("tcp", "http", "https"), "udp": ("udp",), "http": ("http",), "https": ("https",)}
_HTTP_DENIED = ("tcp", "http", "https", "udp")
_DENIED_WITH = {"tcp": _COVERED["tcp"], "udp": _COVERED["udp"], "http": _HTTP_DENIED, "https": _HTTP_DENIED}
"""The schemes that a denial of each scheme covers: TCP carries HTTP/1 and HTTP/2, UDP carries HTTP/3 (RFC 9114)."""
_OF_METHODS = ("http", "https")
_METHOD = re.compile("[A-Z][A-Z-]{0,31}")
_MOST_PATTERN = 1000
_OWN_NAME = "localhost"
_PATH = "has a path, which no pattern has; leave out what follows the host and the port"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPattern:
    """One rule: ``[METHOD ][scheme://](host | *.host | IP | CIDR | public | private | local)[:port | :lo-hi | :*]``.

    Without a scheme it is for every one; ``tcp`` covers ``http`` and ``https``, which run over it. A method, in
    capitals, is for a rule of ``http`` or ``https`` that allows, which then allows requests of that method alone.
    ``*.host`` is any name beneath ``host``, not ``host`` itself. ``private`` is RFC 1918, unique local
    and carrier-grade NAT addresses, ``local`` loopback and link-local ones, ``public`` what is in no
    closed class. Cloud metadata, multicast, unspecified and reserved addresses are in none of the three.

    A rule that names a host lets it be looked up. ``public`` lets any name be, for who reaches any public
    host can tell it as much; ``local`` only ``localhost``, for any other name is told to a resolver
    elsewhere; ``private``, an IP and a CIDR none, so a name inside takes a rule for it and one for its address.
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
                raise PolicyError(f"network: a method, a scheme and a host are text, not {type(text).__name__}")
        _check_scheme(self.scheme)
        if self.method is not None and (self.scheme not in _OF_METHODS or not _METHOD.fullmatch(self.method)):
            raise wrong(self.method, "is not the method of a rule for http or https; write GET https://a.example")
        if not isinstance(self.ports, tuple):
            raise PolicyError(f"network: the ports are a pair, such as (443, 443), not {type(self.ports).__name__}")
        if not _is_range(self.ports):
            shown = "-".join(map(str, self.ports))
            raise wrong(shown, "is not a range of ports; the least is 0, the most 65535, lower first")
        kind, host, network = _host(self.host)
        for name, value in (("host", host), ("kind", kind), ("_network", network)):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, text: str, *, any_port: bool = False) -> NetworkPattern:
        """Parse a pattern. With ``any_port`` one that names no port is for every port, whatever its scheme."""
        if not isinstance(text, str):
            raise PolicyError(f"network: a pattern is text, such as https://api.example.com, not {type(text).__name__}")
        if len(text) > _MOST_PATTERN:
            raise wrong(text, f"is longer than {_MOST_PATTERN} characters, which no pattern is")
        method, _, rest = text.rpartition(" ")
        if not _METHOD.fullmatch(method):
            method, rest = "", text
        scheme, rest = _split_scheme(rest)
        _check_scheme(scheme)
        host, port = _split_port(rest, text)
        if not host:
            raise wrong(text, "names no host; write a name, *.name, an IP, a CIDR, public, private or local")
        _host(host)  # a fault of the host is reported before a missing port
        ports = _ports(port, text) if port is not None else _implied(scheme, text, any_port=any_port)
        return cls(method=method or None, scheme=scheme, host=host, ports=ports)

    def __str__(self) -> str:
        host = self.host
        if ":" in host:
            host = f"[{host}]"
        scheme = f"{self.method} " if self.method else ""
        scheme += f"{self.scheme}://" if self.scheme else ""
        low, high = self.ports
        if low == high == (IMPLIED_PORTS[self.scheme] if self.scheme else None):
            return f"{scheme}{host}"
        port = "*" if (low, high) == (0, MOST_PORT) else str(low) if low == high else f"{low}-{high}"
        return f"{scheme}{host}:{port}"

    def fits_port(self, scheme: str, port: int) -> bool:
        """Tell whether the pattern is for this scheme and port."""
        covered = self.scheme is None or scheme in _COVERED[self.scheme]
        return covered and self.ports[0] <= port <= self.ports[1]

    def fits_method(self, method: str | None) -> bool:
        """Tell whether the pattern is for requests of this method; what is no request has none."""
        return self.method is None or self.method == method

    def keeps_from(self, scheme: str, port: int) -> bool:
        """Tell whether the pattern, as a denial of an address, is for this scheme and port.

        It covers every transport that can carry its own scheme.
        """
        covered = self.scheme is None or scheme in _DENIED_WITH[self.scheme]
        return covered and self.ports[0] <= port <= self.ports[1]

    def lets_look_up(self, name: str) -> bool:
        """Tell whether the pattern, as an allowance, lets this host name, which is normalised, be looked up."""
        if self.kind != "class":
            return self.fits_name(name)
        own = name == _OWN_NAME or name.endswith(f".{_OWN_NAME}")
        return self.host == "public" or (self.host == "local" and own)

    def fits_name(self, name: str) -> bool:
        """Tell whether the pattern names this host name, which is normalised."""
        if self.kind == "beneath":
            return name.endswith(self.host[1:])
        return self.kind == "name" and name == self.host

    def is_tunnel(self) -> bool:
        """Tell whether the pattern names nothing but addresses that carry another, by which they are judged."""
        return self._network is not None and addresses.is_tunnel(self._network)

    def fits_address(self, address: Address) -> bool:
        """Tell whether the pattern names this address by its class, by IP or by CIDR."""
        if self.kind == "class":
            return addresses.named_by(address) == self.host
        return self._network is not None and address in self._network


def wrong(text: str, message: str) -> PolicyError:
    """Return what is wrong with a rule, of which ``text`` is the part."""
    return PolicyError(f"network: '{printable(text, 80)}' {message}")


def _is_range(ports: tuple[int, ...]) -> bool:
    whole = len(ports) == 2 and all(type(port) is int for port in ports)
    return whole and 0 <= ports[0] <= ports[1] <= MOST_PORT


def _check_scheme(scheme: str | None) -> None:
    if scheme is not None and scheme not in IMPLIED_PORTS:
        raise wrong(scheme, f"is not a scheme; use {', '.join(IMPLIED_PORTS)}, or none for all of them")


def _split_scheme(text: str) -> tuple[str | None, str]:
    scheme, mark, rest = text.partition("://")
    return (scheme.lower(), rest) if mark else (None, text)


def _split_port(rest: str, text: str) -> tuple[str, str | None]:
    if rest.startswith("["):
        inner, mark, tail = rest[1:].partition("]")
        if not mark or ":" not in inner:
            raise wrong(text, "has brackets that hold no IPv6 address; write [2001:db8::1]:443")
        size, colon, port = tail.partition(":")
        if size and not size.startswith("/"):
            raise wrong(text, "has something other than a port after the bracket; write [2001:db8::1]:443")
        return inner + size, port if colon else None
    if rest.count(":") > 1:
        raise wrong(text, "has more than one colon; write an IPv6 address in brackets, such as [2001:db8::1]:443")
    host, colon, port = rest.partition(":")
    return host, port if colon else None


def _implied(scheme: str | None, text: str, *, any_port: bool) -> tuple[int, int]:
    """Return the ports of a pattern that names none."""
    port = IMPLIED_PORTS.get(scheme) if scheme else None
    if any_port:
        return 0, MOST_PORT
    if port is None:
        raise wrong(text, f"names no port; write {printable(text)}:443, a range such as :8000-8080, or :* for all")
    return port, port


def _ports(port: str, text: str) -> tuple[int, int]:
    if port == "*":
        return 0, MOST_PORT
    if "/" in port:
        raise wrong(text, _PATH)
    low, mark, high = port.partition("-")
    if not _is_port(low) or (mark and not _is_port(high)):
        raise wrong(text, "ends in no port; write :443, a range such as :8000-8080, or :* for all")
    first, last = int(low), int(high if mark else low)
    if max(first, last) > MOST_PORT:
        raise wrong(text, f"names port {max(first, last)}; the greatest port is {MOST_PORT}")
    if first > last:
        raise wrong(text, f"has a range of ports that begins at its greater end; write :{last}-{first}")
    return first, last


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
        raise wrong(text, "has a zone; leave it out, a rule is for every interface")
    if text.startswith("*."):
        return "beneath", f"*.{_pattern_name(text[2:], text)}", None
    if ":" in text or addresses.ends_in_number(_ascii(text) or ""):
        network = _single(text)
        return "network", _network_text(network), network
    name = _pattern_name(text, text)
    if name in addresses.CLASSES:
        raise wrong(text, f"looks like a name and reads like a class; write {name} for the class")
    return "name", name, None


def _network_text(network: Network) -> str:
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _cidr(text: str) -> Network:
    from ipaddress import ip_network

    base, _, size = text.partition("/")
    if not size.isascii() or not size.isdigit():
        raise wrong(text, _PATH)
    bits = 128 if ":" in base else 32
    if len(size) > 3 or int(size) > bits:
        raise wrong(text, f"has a prefix of more than {bits} bits; write it like 10.0.0.0/8 or [2001:db8::/32]")
    try:
        return addresses.plain_network(ip_network(f"{base}/{size}"))
    except ValueError:
        pass
    try:
        tidy = ip_network(f"{base}/{size}", strict=False)
    except ValueError:
        raise wrong(text, "is not a network; write it like 10.0.0.0/8 or [2001:db8::/32]") from None
    raise wrong(text, f"is an address within a network; write {tidy} for the network") from None


def _single(text: str) -> Network:
    from ipaddress import ip_network

    address = read_host(text)
    if address is None:
        raise wrong(text, "is not an address; write it like 192.0.2.1 or [2001:db8::1]")
    return ip_network(addresses.judged(address))


def _pattern_name(text: str, whole: str) -> str:
    if "*" in text:
        raise wrong(whole, "has a '*' that is not its whole first label; write *.example.com, or public for any host")
    try:
        name = checked_name(text)
    except HostNameError as error:
        raise wrong(whole, str(error)) from None
    if addresses.ends_in_number(name):
        raise wrong(whole, "is not a host; write a name, *.name, an IP, a CIDR, public, private or local")
    return name


def read_host(text: str) -> Address | None:
    """Return the address that ``text`` is in any notation, or ``None``."""
    return addresses.read_address(_ascii(text) or text)


def plain_host(text: str) -> str | None:
    """Return an address or a name in the one notation that is judged, ``None`` for what is neither.

    An IPv4 address in any notation, or mapped into IPv6, is in dotted decimals; a name is as it is asked for.
    """
    found = read_host(text)
    if found is None:
        return host_name(text)
    return str(getattr(found, "ipv4_mapped", None) or found)


def _ascii(text: str) -> str | None:
    """Return a host in the form that is compared; ``None`` if it has none."""
    try:
        return ascii_form(text)
    except HostNameError:
        return None


def host_name(text: str) -> str | None:
    """Return a host name, normalised, or ``None`` if ``text`` is none."""
    try:
        name = checked_name(text)
    except HostNameError:
        return None
    return None if addresses.ends_in_number(name) else name
