"""Parse IP addresses in every notation, and classify each one.

The tables are written out here because ``is_private`` and ``is_global`` of :mod:`ipaddress` differ between versions of
Python.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Address = IPv4Address | IPv6Address
    Network = IPv4Network | IPv6Network

__all__ = [
    "CLASSES",
    "address_class",
    "carried",
    "ends_in_number",
    "is_tunnel",
    "judged",
    "named_by",
    "plain_network",
    "read_address",
]

CLASSES = ("public", "private", "local")
"""The classes that a rule can name; an address of any other class must be named by IP or CIDR."""

_METADATA = (
    "169.254.169.254/32", "169.254.169.253/32", "169.254.169.123/32", "169.254.170.2/32", "169.254.170.23/32",
    "169.254.0.23/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
    "fd00:ec2::254/128", "fd00:ec2::253/128", "fd00:ec2::23/128", "fd20:ce::254/128", "fd00:42::42/128",
)  # fmt: skip

_TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("metadata", _METADATA),
    ("unspecified", ("0.0.0.0/32", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")),
    ("carrier", ("100.64.0.0/10",)),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("reserved", (
        "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20",
    )),
    ("public", ("0.0.0.0/0", "2000::/3")),
)  # fmt: skip
"""The first row that contains an address gives its class; an address in no row is reserved."""

_NAMED_BY = {"public": "public", "private": "private", "carrier": "private", "loopback": "local", "link-local": "local"}

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+", re.ASCII)
_MAX_ADDRESS_CHARACTERS = 100


def ends_in_number(name: str) -> bool:
    """Return whether the last label is a number, which makes ``name`` an IPv4 address or invalid (WHATWG URL, 3.5)."""
    return _NUMBER.fullmatch(name.rpartition(".")[2]) is not None


def read_address(text: str) -> Address | None:
    """Parse an IP address in any notation that ``inet_aton`` or a resolver accepts; return ``None`` for other text.

    IPv4 parts may be octal or hexadecimal, and there may be fewer than four. IPv6 may be in brackets and may have a
    zone, which is dropped.
    """
    from ipaddress import AddressValueError, IPv4Address, IPv6Address

    if len(text) > _MAX_ADDRESS_CHARACTERS:
        return None
    if ":" not in text:
        value = _loose_ipv4(text)
        return None if value is None else IPv4Address(value)
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        return IPv6Address(int(IPv6Address(text)))
    except AddressValueError:
        return None


def _loose_ipv4(text: str) -> int | None:
    parts = text.split(".")
    numbers = [_number(part) for part in parts]
    if len(parts) > 4 or None in numbers:
        return None
    *heads, last = (number for number in numbers if number is not None)
    if any(head > 0xFF for head in heads) or last >= 1 << 8 * (4 - len(heads)):
        return None
    return sum(head << 8 * (3 - place) for place, head in enumerate(heads)) + last


def _number(text: str) -> int | None:
    if not _NUMBER.fullmatch(text):
        return None
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    if text.startswith("0"):
        return int(text, 8) if not set(text) & {"8", "9"} else None
    return int(text)


def carried(address: Address) -> IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 address (mapped, translated, 6to4 or Teredo), or ``None``."""
    from ipaddress import IPv4Address, IPv6Address

    if not isinstance(address, IPv6Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _translators()):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def judged(address: Address) -> Address:
    """Return the address that rules are compared with: the embedded IPv4 address, or ``address`` itself."""
    return carried(address) or address


def plain_network(network: Network) -> Network:
    """Return the IPv4 network embedded in a network of mapped or translated addresses, or ``network`` itself.

    A network of a single address is treated as :func:`judged` treats that address.
    """
    from ipaddress import IPv4Network, IPv6Network, ip_network

    if network.prefixlen == network.max_prefixlen:
        return ip_network(judged(network.network_address))
    if isinstance(network, IPv6Network) and any(network.subnet_of(translator) for translator in _translators()):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


def is_tunnel(network: Network) -> bool:
    """Return whether every address in ``network`` is a 6to4 or Teredo address, which :func:`judged` never returns."""
    from ipaddress import IPv6Network

    return isinstance(network, IPv6Network) and any(network.subnet_of(tunnel) for tunnel in _tunnels())


@lru_cache(maxsize=1024)
def address_class(address: Address) -> str:
    """Return the class of an address from :func:`judged`, such as ``public`` or ``loopback``."""
    for name, networks in _table():
        if any(address in network for network in networks):
            return name
    return "reserved"


def named_by(address: Address) -> str | None:
    """Return the entry of ``CLASSES`` that includes an address from :func:`judged`, or ``None``."""
    return _NAMED_BY.get(address_class(address))


@cache
def _tunnels() -> tuple[IPv6Network, ...]:
    from ipaddress import IPv6Network

    return tuple(map(IPv6Network, ("2002::/16", "2001::/32")))


@cache
def _translators() -> tuple[IPv6Network, ...]:
    from ipaddress import IPv6Network

    return tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))


@cache
def _table() -> tuple[tuple[str, tuple[Network, ...]], ...]:
    from ipaddress import ip_network

    return tuple((name, tuple(map(ip_network, networks))) for name, networks in _TABLE)
