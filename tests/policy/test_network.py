"""Network patterns: their grammar, and the decision on a name and on each of its addresses."""

from __future__ import annotations

import dataclasses
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from subprocess import run
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis.errors import PolicyError
from aegis.policy import NetworkCapability, NetworkPattern, NetworkVerdict, addresses
from aegis.policy.patterns import plain_host

# -- patterns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown", "kind", "ports"),
    [
        ("https://api.example.com", "https://api.example.com", "name", (443, 443)),
        ("http://api.example.com:80", "http://api.example.com", "name", (80, 80)),
        ("http://api.example.com:8080", "http://api.example.com:8080", "name", (8080, 8080)),
        ("HTTPS://API.Example.COM.", "https://api.example.com", "name", (443, 443)),
        ("example.com:1-9", "example.com:1-9", "name", (1, 9)),
        ("example.com:*", "example.com:*", "name", (0, 65535)),
        ("example.com:0-65535", "example.com:*", "name", (0, 65535)),
        ("bücher.example:1", "xn--bcher-kva.example:1", "name", (1, 1)),
        ("my_host:1", "my_host:1", "name", (1, 1)),
        ("*.Example.com:443", "*.example.com:443", "beneath", (443, 443)),
        ("tcp://10.0.0.0/8:5432", "tcp://10.0.0.0/8:5432", "network", (5432, 5432)),
        ("10.0.0.1/32:1", "10.0.0.1:1", "network", (1, 1)),
        ("udp://[2001:db8::1]:53", "udp://[2001:db8::1]:53", "network", (53, 53)),
        ("[2001:DB8:0::0]/32:1", "[2001:db8::/32]:1", "network", (1, 1)),
        ("[2001:db8::/32]:1", "[2001:db8::/32]:1", "network", (1, 1)),
        ("[::ffff:10.0.0.0/104]:1", "10.0.0.0/8:1", "network", (1, 1)),
        ("[64:ff9b::a00:1]:1", "10.0.0.1:1", "network", (1, 1)),
        ("tcp://0x7f.1:80", "tcp://127.0.0.1:80", "network", (80, 80)),
        ("\uff11\uff12\uff17.1:1", "127.0.0.1:1", "network", (1, 1)),
        ("https://[::1]", "https://[::1]", "network", (443, 443)),
        ("Public:443", "public:443", "class", (443, 443)),
        ("https://private", "https://private", "class", (443, 443)),
        ("local:*", "local:*", "class", (0, 65535)),
    ],
)
def test_a_pattern(text: str, shown: str, kind: str, ports: tuple[int, int]) -> None:
    pattern = NetworkPattern.parse(text)
    assert (str(pattern), pattern.kind, pattern.ports) == (shown, kind, ports)
    assert NetworkPattern.parse(shown) == pattern


BRACKETS = "has brackets without an IPv6 address: write [2001:db8::1]:443"
NO_PORT = "does not end in a port: write :443, a range such as :8000-8080, or :* for all"
NO_HOST = "is not a host: write a name, *.name, an IP, a CIDR, public, private or local"
STAR = "has a '*' that is not its whole first label: write *.example.com, or public for any host"
LONG_PREFIX = "has a prefix of more than %d bits: write it like 10.0.0.0/8 or [2001:db8::/32]"
COLONS = "has more than one colon: write an IPv6 address in brackets, such as [2001:db8::1]:443"
NAMELESS = "has no host: write a name, *.name, an IP, a CIDR, public, private or local"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "example.com",
            "'example.com' has no port: write example.com:443, a range such as :8000-8080, or :* for all",
        ),
        ("tcp://a", "'tcp://a' has no port: write tcp://a:443, a range such as :8000-8080, or :* for all"),
        ("", f"'' {NAMELESS}"),
        (":80", f"':80' {NAMELESS}"),
        ("x" * 1001, f"'{'x' * 80}… (1001 characters)' is longer than a pattern may be (1001/1000 characters)"),
        ("ftp://a:1", "'ftp' is not a scheme: use tcp, udp, http, https, or none for all of them"),
        ("a:", f"'a:' {NO_PORT}"),
        ("a:b", f"'a:b' {NO_PORT}"),
        ("a:1-", f"'a:1-' {NO_PORT}"),
        ("a:-1", f"'a:-1' {NO_PORT}"),
        ("a:²", f"'a:²' {NO_PORT}"),
        ("a:99999", "'a:99999' has port 99999; the highest port is 65535"),
        ("a:65536", "'a:65536' has port 65536; the highest port is 65535"),
        ("a:1-65536", "'a:1-65536' has port 65536; the highest port is 65535"),
        ("a:9-1", "'a:9-1' has a range of ports in descending order: write :1-9"),
        (
            "a:443/path",
            "'a:443/path' has a path, which patterns do not support: end the pattern after the host and port",
        ),
        ("[x]:1", f"'[x]:1' {BRACKETS}"),
        ("[::1:1", f"'[::1:1' {BRACKETS}"),
        (
            "[::1]x:1",
            "'[::1]x:1' has text other than a port after the bracket: write [2001:db8::1]:443",
        ),
        ("::1:80", "'::1:80' has more than one colon: write an IPv6 address in brackets, such as [2001:db8::1]:443"),
        ("[fe80::1%eth0]:1", "'fe80::1%eth0' has a zone: remove it, because a pattern applies to every interface"),
        ("[::x]:1", "'::x' is not an address: write it like 192.0.2.1 or [2001:db8::1]"),
        ("256.1.1.1:1", "'256.1.1.1' is not an address: write it like 192.0.2.1 or [2001:db8::1]"),
        ("1.2.3.4.5:1", "'1.2.3.4.5' is not an address: write it like 192.0.2.1 or [2001:db8::1]"),
        ("10.0.0.1/8:1", "'10.0.0.1/8' is an address inside a network: write 10.0.0.0/8 for the network"),
        ("10.0.0.0/33:1", f"'10.0.0.0/33' {LONG_PREFIX % 32}"),
        ("10.0.0.1/33", f"'10.0.0.1/33' {LONG_PREFIX % 32}"),
        ("[2001:db8::]/129", f"'2001:db8::/129' {LONG_PREFIX % 128}"),
        ("10.0.0.1/8", "'10.0.0.1/8' is an address inside a network: write 10.0.0.0/8 for the network"),
        ("10.0.0.x/8", "'10.0.0.x/8' is not a network: write it like 10.0.0.0/8 or [2001:db8::/32]"),
        ("ftp://x", "'ftp' is not a scheme: use tcp, udp, http, https, or none for all of them"),
        ("ftp://", "'ftp' is not a scheme: use tcp, udp, http, https, or none for all of them"),
        ("tcp://:80", f"'tcp://:80' {NAMELESS}"),
        ("*", f"'*' {STAR}"),
        ("2001:db8::1", f"'2001:db8::1' {COLONS}"),
        ("a\0b", "'a\\x00b' contains U+0000, which is not allowed in a host name"),
        ("a b:1", "'a b' contains ' ', which is not allowed in a host name"),
        ("a?b", "'a?b' contains '?', which is not allowed in a host name"),
        ("https://a/b", "'a/b' has a path, which patterns do not support: end the pattern after the host and port"),
        ("https://a/", "'a/' has a path, which patterns do not support: end the pattern after the host and port"),
        ("https://u@h", "'u@h' contains '@', which is not allowed in a host name"),
        ("a..b:1", "'a..b' has an empty label: write one dot between two labels"),
        (".:1", "'.' has an empty label: write one dot between two labels"),
        ("-a:1", "'-a' has a label that begins or ends with '-'"),
        ("a-", "'a-' has a label that begins or ends with '-'"),
        (f"{'a' * 64}.b", f"'{'a' * 64}.b' has a label of more than 63 characters"),
        (f"{'a.' * 130}b:1", f"'{'a.' * 40}… (261 characters)' is longer than a host name can be (261/253 characters)"),
        ("*.10:1", f"'*.10' {NO_HOST}"),
        ("*.:1", "'*.' has an empty label: write one dot between two labels"),
        ("*:1", f"'*' {STAR}"),
        ("a*.b:1", f"'a*.b' {STAR}"),
        ("a.*.b:1", f"'a.*.b' {STAR}"),
        ("*.*.b:1", f"'*.*.b' {STAR}"),
    ],
)
def test_a_rejected_pattern(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        NetworkPattern.parse(text)
    assert str(caught.value) == f"network: {message}"


def test_a_pattern_is_text() -> None:
    with pytest.raises(PolicyError, match=r"a pattern must be text, such as https://api\.example\.com, not int"):
        NetworkPattern.parse(5)  # type: ignore[arg-type]


def test_an_over_long_host_is_none() -> None:
    with pytest.raises(PolicyError, match="is longer than a host name can be"):
        NetworkPattern(host="a" * 2000, ports=(1, 1))


def test_a_pattern_for_every_port() -> None:
    assert str(NetworkPattern.parse("*.example.com", any_port=True)) == "*.example.com:*"
    assert str(NetworkPattern.parse("https://example.com", any_port=True)) == "https://example.com:*"


@pytest.mark.parametrize(
    "text", ["2001::", "2002:a00:1::", "64:ff9b::a00:1", "::ffff:10.0.0.1", "2001:db8::1", "10.0.0.1"]
)
def test_a_network_of_one_address_means_the_address(text: str) -> None:
    size = 128 if ":" in text else 32
    alone, network = (NetworkPattern(host=host, ports=(1, 1)) for host in (text, f"{text}/{size}"))
    assert network == alone
    assert not network.is_tunnel()


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda label: label[2:4] != "--")
NAMES = (
    st.lists(LABELS, min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda name: not addresses.ends_in_number(name) and name not in addresses.CLASSES)
)
ADDRESSES = st.ip_addresses()
NETWORKS = st.tuples(ADDRESSES, st.integers(0, 128)).map(
    lambda pair: str(ip_network((pair[0], min(pair[1], pair[0].max_prefixlen)), strict=False))
)
HOSTS = st.one_of(NAMES, NAMES.map("*.{}".format), ADDRESSES.map(str), NETWORKS, st.sampled_from(addresses.CLASSES))
PORTS = st.tuples(st.integers(0, 65535), st.integers(1, 65535)).map(lambda pair: (min(pair), max(pair)))
PATTERNS = st.builds(
    NetworkPattern, scheme=st.sampled_from([None, "tcp", "udp", "http", "https"]), host=HOSTS, ports=PORTS
) | st.builds(
    NetworkPattern,
    method=st.sampled_from(["GET", "POST", "M-SEARCH"]),
    scheme=st.sampled_from(["http", "https"]),
    host=HOSTS,
    ports=PORTS,
)
DENIALS = PATTERNS.filter(lambda pattern: pattern.method is None)
GRANTS = PATTERNS.filter(lambda pattern: not pattern.is_tunnel())


@given(PATTERNS)
def test_a_pattern_survives_its_text(pattern: NetworkPattern) -> None:
    again = NetworkPattern.parse(str(pattern))
    assert again == pattern
    assert str(again) == str(pattern)
    assert NetworkPattern.parse(str(pattern).upper()) == pattern


@given(st.text(max_size=40) | st.text(alphabet="a1.:/[]*-%x", max_size=20))
def test_any_text_is_a_pattern_or_a_policy_error(text: str) -> None:
    try:
        pattern = NetworkPattern.parse(text, any_port=True)
    except PolicyError:
        return
    assert NetworkPattern.parse(str(pattern)) == pattern


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_host_has_a_verdict(host: str, address: str) -> None:
    capability = NetworkCapability(allow=["example.com:*"])
    assert not capability.decide("tcp", host, 1, address=address).allowed
    assert not capability.decide_listen("tcp", host, 1).allowed


# -- addresses ----------------------------------------------------------------------------------


def notations(address: IPv4Address) -> list[str]:
    """Return an IPv4 address in a form that a resolver may receive."""
    a, b, c, d = address.packed
    low, mid = int(address) & 0xFFFF, int(address) & 0xFFFFFF
    return [
        str(address), f"{a:#x}.{b:#X}.{c}.{d}", f"0{a:o}.0{b:o}.{c:#x}.0{d:o}", f"{a}.{b}.{low}", f"{a}.{mid:#x}",
        str(int(address)), hex(int(address)), f"0{int(address):o}", f"{address}.",
    ]  # fmt: skip


def carriers(address: IPv4Address) -> list[str]:
    """Return the IPv6 addresses that represent an IPv4 address."""
    value = int(address)
    teredo = (0x20010000 << 96) | (0x01020304 << 64) | (value ^ 0xFFFFFFFF)
    return [
        f"::ffff:{address}", f"[::ffff:{address}]", f"::ffff:0:{address}", f"64:ff9b::{address}",
        str(IPv6Address((0x2002 << 112) | (value << 80) | 1)), str(IPv6Address(teredo)),
    ]  # fmt: skip


@given(st.ip_addresses(v=4))
def test_every_notation_is_the_same_address(address: IPv4Address) -> None:
    rule = NetworkCapability(allow=[f"{address}:*"], listen=[f"{address}:*"])
    for text in notations(address) + carriers(address):
        assert rule.decide("tcp", text, 1), text
    for text in carriers(address):
        assert rule.decide_listen("tcp", text, 1), text
        assert addresses.judged(addresses.read_address(text) or address) == address


@given(st.ip_addresses())
def test_an_address_reads_as_itself(address: IPv4Address | IPv6Address) -> None:
    assert addresses.read_address(str(address)) == address
    assert addresses.judged(addresses.judged(address)) == addresses.judged(address)


@given(st.ip_addresses(v=4))
def test_an_encoding_that_carries_an_address_is_no_more_public_than_it(address: IPv4Address) -> None:
    public = NetworkCapability(allow=["public:*"])
    expected = public.decide("tcp", str(address), 1).allowed
    assert all(public.decide("tcp", text, 1).allowed is expected for text in carriers(address))


@pytest.mark.parametrize(
    "text", ["", ".", "1..2", "0x7g", "09.1", "1.2.3.4.5", "256.1.1.1", "1.256.1", "4294967296", "1.2.3.256", "::g",
             "[1]", "9" * 101, "a", "1 ", "\u0661"]
)  # fmt: skip
def test_invalid_addresses(text: str) -> None:
    assert addresses.read_address(text) is None


def test_a_bare_0x_is_zero_and_a_zone_is_dropped() -> None:
    assert addresses.read_address("0x") == ip_address("0.0.0.0")
    assert addresses.read_address("fe80::1%eth0") == ip_address("fe80::1")


CLASSES = [
    ("1.1.1.1", "public", "public"),
    ("2606:4700::1111", "public", "public"),
    ("10.0.0.1", "private", "private"),
    ("172.31.255.255", "private", "private"),
    ("192.168.1.1", "private", "private"),
    ("fd00::1", "private", "private"),
    ("100.64.0.1", "carrier", "private"),
    ("127.0.0.1", "loopback", "local"),
    ("127.255.0.1", "loopback", "local"),
    ("::1", "loopback", "local"),
    ("169.254.1.1", "link-local", "local"),
    ("fe80::1", "link-local", "local"),
    ("169.254.169.254", "metadata", None),
    ("fd00:ec2::254", "metadata", None),
    ("100.100.100.200", "metadata", None),
    ("168.63.129.16", "metadata", None),
    ("0.0.0.0", "unspecified", None),
    ("::", "unspecified", None),
    ("224.0.0.1", "multicast", None),
    ("ff02::1", "multicast", None),
    ("255.255.255.255", "reserved", None),
    ("0.1.2.3", "reserved", None),
    ("192.0.2.1", "reserved", None),
    ("2001:db8::1", "reserved", None),
    ("::127.0.0.1", "reserved", None),
    ("64:ff9b:1::a00:1", "reserved", None),
]


@pytest.mark.parametrize(("text", "kind", "named"), CLASSES)
def test_an_address_class_and_the_rule_that_names_it(text: str, kind: str, named: str | None) -> None:
    address = addresses.read_address(text)
    assert address is not None
    assert addresses.address_class(address) == kind
    for name in addresses.CLASSES:
        assert NetworkCapability(allow=[f"{name}:*"]).decide("tcp", text, 80).allowed is (name == named)
    host = f"[{text}]" if ":" in text else text
    wide = "[::/0]:*" if ":" in text else "0.0.0.0/0:*"
    assert NetworkCapability(allow=[f"{host}:*"]).decide("tcp", text, 80)
    assert NetworkCapability(allow=[wide]).decide("tcp", text, 80)
    by_name = NetworkCapability(allow=["example.com:*", "*.example.com:*"])
    assert by_name.decide("tcp", "example.com", 80, address=text).allowed is (kind == "public")


# -- verdicts -----------------------------------------------------------------------------------

RULES = NetworkCapability(
    allow=["https://api.example.com", "*.wild.example:8000-8080", "tcp://10.0.0.0/8:5432"],
    deny=["*.tracker.example", "udp://evil.wild.example:*", "10.6.6.6", "bad.wild.example:8001"],
    listen=["tcp://127.0.0.1:8080", "udp://local:*"],
)


@pytest.mark.parametrize(
    ("scheme", "host", "port", "address", "allowed", "rule"),
    [
        ("https", "api.example.com", 443, None, True, "allow https://api.example.com"),
        ("https", "API.example.COM.", 443, "1.1.1.1", True, "allow https://api.example.com"),
        ("http", "api.example.com", 443, None, False, "nothing allows http://api.example.com:443"),
        ("tcp", "api.example.com", 443, None, False, "nothing allows tcp://api.example.com:443"),
        ("https", "api.example.com", 444, None, False, "nothing allows https://api.example.com:444"),
        ("https", "x.api.example.com", 443, None, False, "nothing allows https://x.api.example.com:443"),
        ("https", "api.example.com.evil", 443, None, False, "nothing allows https://api.example.com.evil:443"),
        (
            "https", "api.example.com", 443, "127.0.0.1", False,
            "api.example.com is allowed, but 127.0.0.1 is a loopback address, "
            "which must be allowed as local, by IP or CIDR",
        ),
        (
            "https", "api.example.com", 443, "::ffff:169.254.169.254", False,
            "api.example.com is allowed, but 169.254.169.254 is a metadata address, "
            "which must be allowed by IP or CIDR",
        ),
        ("udp", "a.b.wild.example", 8080, "1.1.1.1", True, "allow *.wild.example:8000-8080"),
        ("udp", "wild.example", 8080, None, False, "nothing allows udp://wild.example:8080"),
        ("udp", "notwild.example", 8080, None, False, "nothing allows udp://notwild.example:8080"),
        ("udp", "evil.wild.example", 8080, None, False, "deny udp://evil.wild.example:*"),
        ("tcp", "evil.wild.example", 8080, None, False, "deny udp://evil.wild.example:*"),
        ("tcp", "bad.wild.example", 8001, None, False, "deny bad.wild.example:8001"),
        ("tcp", "bad.wild.example", 8002, None, False, "deny bad.wild.example:8001"),
        ("tcp", "x.tracker.example", 1, None, False, "deny *.tracker.example:*"),
        ("tcp", "10.0.0.1", 5432, None, True, "allow tcp://10.0.0.0/8:5432"),
        ("http", "10.0.0.1", 5432, None, True, "allow tcp://10.0.0.0/8:5432"),
        ("udp", "10.0.0.1", 5432, None, False, "nothing allows udp://10.0.0.1:5432"),
        ("tcp", "[2002:a00:1::]", 5432, None, True, "allow tcp://10.0.0.0/8:5432"),
        ("tcp", "10.6.6.6", 5432, None, False, "deny 10.6.6.6:*"),
        ("tcp", "::ffff:10.6.6.6", 5432, None, False, "deny 10.6.6.6:*"),
        ("tcp", "a.wild.example", 8000, "10.6.6.6", False, "deny 10.6.6.6:*"),
        ("tcp", "db.internal", 5432, "10.0.0.1", True, "allow tcp://10.0.0.0/8:5432"),
        ("tcp", "db.internal", 5432, None, False, "nothing allows tcp://db.internal:5432"),
        ("tcp", "::1", 80, None, False, "nothing allows tcp://[::1]:80"),
        ("icmp", "a", 1, None, False, "'icmp' is not a supported scheme"),
        ("tcp", "a", 65536, None, False, "65536 is not a port"),
        ("tcp", "a", -1, None, False, "-1 is not a port"),
        ("tcp", "a\nb", 1, None, False, "'a\\nb' is not a host"),
        ("tcp", "1.2.3.4.5", 1, None, False, "'1.2.3.4.5' is not a host"),
        ("tcp", "a", 1, "b", False, "'b' is not an address of a"),
        ("tcp", "10.0.0.1", 5432, "10.0.0.2", False, "'10.0.0.2' is not an address of 10.0.0.1"),
        ("tcp", "0xa.1", 5432, "10.0.0.1", True, "allow tcp://10.0.0.0/8:5432"),
    ],
)  # fmt: skip
def test_a_verdict(scheme: str, host: str, port: int, address: str | None, allowed: bool, rule: str) -> None:
    verdict = RULES.decide(scheme, host, port, address=address)
    assert verdict == NetworkVerdict(allowed, rule)
    assert bool(verdict) is allowed


@pytest.mark.parametrize(
    ("scheme", "host", "port", "allowed", "rule"),
    [
        ("tcp", "127.0.0.1", 8080, True, "listen tcp://127.0.0.1:8080"),
        ("udp", "::1", 0, True, "listen udp://local:*"),
        ("tcp", "0.0.0.0", 8080, False, "nothing allows listening at tcp://0.0.0.0:8080"),
        ("tcp", "10.0.0.1", 5432, False, "nothing allows listening at tcp://10.0.0.1:5432"),
        ("tcp", "localhost", 8080, False, "'localhost' is not an address to listen on"),
        ("x", "127.0.0.1", 8080, False, "'x' is not a supported scheme"),
    ],
)
def test_a_verdict_on_listening(scheme: str, host: str, port: int, allowed: bool, rule: str) -> None:
    assert RULES.decide_listen(scheme, host, port) == NetworkVerdict(allowed, rule)


def test_a_class_lets_names_be_looked_up() -> None:
    capability = NetworkCapability(allow=["public:443"], deny=["evil.example"])
    assert capability.decide("https", "any.example", 443)
    assert capability.decide("https", "any.example", 443, address="1.1.1.1")
    assert not capability.decide("https", "any.example", 443, address="10.0.0.1")
    assert not capability.decide("https", "evil.example", 443)


def test_a_denied_tunnel_is_denied_as_it_was_given() -> None:
    capability = NetworkCapability(allow=["public:*"], deny=["[2002::]/16"])
    assert not capability.decide("tcp", "2002:101:101::1", 80)
    assert capability.decide("tcp", "1.1.1.1", 80)


@given(st.sampled_from(["tcp", "udp", "http", "https"]), NAMES | ADDRESSES.map(str), st.integers(0, 65535), ADDRESSES)
def test_the_empty_capability_allows_nothing(scheme: str, host: str, port: int, address: IPv4Address) -> None:
    nothing = NetworkCapability()
    assert not nothing.decide(scheme, host, port)
    assert not nothing.decide(scheme, host, port, address=str(address))
    assert not nothing.decide_listen(scheme, host, port)


@given(st.lists(GRANTS, max_size=4), st.lists(DENIALS, max_size=4), HOSTS, st.integers(0, 65535))
def test_deny_only_takes_away(allow: list[NetworkPattern], deny: list[NetworkPattern], host: str, port: int) -> None:
    less = NetworkCapability(allow=allow, deny=deny).decide("tcp", host, port)
    assert NetworkCapability(allow=allow).decide("tcp", host, port).allowed or not less.allowed


# -- the capability -----------------------------------------------------------------------------


def test_rules_are_parsed_and_kept_once() -> None:
    pattern = NetworkPattern.parse("a:1")
    capability = NetworkCapability(allow=(text for text in ("A:1", "a.:1")), deny=[pattern])
    assert capability.allow == capability.deny == (pattern,)
    assert hash(capability) == hash(dataclasses.replace(capability))


def test_capabilities_add_up() -> None:
    left, right = (
        NetworkCapability(allow=["a:1"], listen=["local:1"]),
        NetworkCapability(allow=["a:1", "b:1"], deny=["c"]),
    )
    assert left + right == NetworkCapability(allow=["a:1", "b:1"], deny=["c"], listen=["local:1"])


def test_a_capability_described() -> None:
    assert NetworkCapability().describe() == []
    assert NetworkCapability(allow=["https://a"], deny=["b"], listen=["local:1"]).describe() == [
        "network https://a",
        "network listening at local:1",
        "network never b:*",
    ]


@pytest.mark.parametrize("value", ["a:1", NetworkPattern(host="a", ports=(1, 1)), 5])
def test_rules_come_in_lists(value: object) -> None:
    with pytest.raises(PolicyError, match="allow must be a list of patterns"):
        NetworkCapability(allow=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("rules", [{"allow": ["a:0"]}, {"deny": ["udp://10.0.0.0/8:0"]}])
def test_nothing_is_reached_at_port_0(rules: dict[str, list[str]]) -> None:
    with pytest.raises(PolicyError, match="has port 0, which cannot be connected to: write :\\* for every port"):
        NetworkCapability(**rules)
    assert NetworkCapability(listen=["127.0.0.1:0"]).decide_listen("tcp", "127.0.0.1", 0), "any free port"


@pytest.mark.parametrize("text", ["localhost:80", "*.example.com:80"])
def test_nothing_listens_at_a_name(text: str) -> None:
    with pytest.raises(PolicyError, match="listens on a name: write an IP"):
        NetworkCapability(listen=[text])


def test_a_policy_without_a_network_does_not_load_it() -> None:
    names = "{'ipaddress', 'aegis.policy.network'} - set(sys.modules)"
    code = f"import sys; names = {names}; import aegis.policy; aegis.policy.Policy(); print(names & set(sys.modules))"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("text", ["local.:80", "LOCAL.:0", "\uff50ublic:80"])
def test_a_name_that_reads_like_a_class_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match="for the class"):
        NetworkPattern.parse(text)


def test_a_peer_denied_over_https_is_denied_over_tcp() -> None:
    policy = NetworkCapability(allow=["tcp://public:*"], deny=["https://93.184.216.34"])
    for scheme, port in (("https", 443), ("tcp", 443), ("https", 8443), ("tcp", 8443)):
        assert not policy.decide(scheme, "93.184.216.34", port)
    assert policy.decide("tcp", "93.184.216.35", 443)


# -- methods --------------------------------------------------------------------------------------


def test_a_rule_may_be_for_one_method() -> None:
    rules = NetworkCapability(allow=["GET https://a.example", "M-SEARCH http://b.example:8080"])
    assert [str(rule) for rule in rules.allow] == ["GET https://a.example", "M-SEARCH http://b.example:8080"]
    assert rules.decide("https", "a.example", 443, method="GET")
    assert rules.decide("https", "a.example", 443, method="GET", address="1.1.1.1")
    assert not rules.decide("https", "a.example", 443, method="GET", address="10.0.0.1")
    assert rules.decide_lookup("a.example")
    for method in ("POST", "get", None):
        assert not rules.decide("https", "a.example", 443, method=method)
        assert not rules.decide("https", "a.example", 443, method=method, address="1.1.1.1")
    assert rules.decide("https", "a.example", 443, method="POST").rule == "nothing allows POST https://a.example:443"
    assert not rules.decide("tcp", "a.example", 443, method="GET")
    assert NetworkCapability(allow=["https://a.example"]).decide("https", "a.example", 443, method="POST")


@pytest.mark.parametrize("text", ["GET a.example:443", "GET tcp://a.example:443", "GET udp://a.example:53"])
def test_only_http_has_methods(text: str) -> None:
    with pytest.raises(PolicyError, match="'GET' is not a method of an http or https pattern"):
        NetworkPattern.parse(text)


@pytest.mark.parametrize("text", ["get https://a.example", "GET,POST https://a.example", "GET  https://a.example"])
def test_invalid_methods(text: str) -> None:
    with pytest.raises(PolicyError):
        NetworkPattern.parse(text)
    with pytest.raises(PolicyError, match="is not a method of an http"):
        NetworkPattern(method=text[:4].rstrip() + "!", scheme="https", host="a.example", ports=(443, 443))


def test_a_denial_is_for_every_method() -> None:
    for rules in ({"deny": ["POST https://a.example"]}, {"listen": ["GET http://127.0.0.1:80"]}):
        with pytest.raises(PolicyError, match="has a method, which only allow supports"):
            NetworkCapability(**rules)  # type: ignore[arg-type]


# -- what a rule may not be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"host": 3, "ports": (1, 1)},
        {"host": None, "ports": (1, 1)},
        {"host": b"a.example", "ports": (1, 1)},
        {"scheme": 3, "host": "a.example", "ports": (1, 1)},
        {"method": 3, "scheme": "http", "host": "a.example", "ports": (1, 1)},
        {"host": "a.example", "ports": 443},
        {"host": "a.example", "ports": [1, 1]},
        {"host": "a.example", "ports": (1,)},
        {"host": "a.example", "ports": ("1", "2")},
        {"host": "a.example", "ports": (True, True)},
    ],
)
def test_a_pattern_of_something_else_is_refused(fields: Any) -> None:
    with pytest.raises(PolicyError, match=r"^network: "):
        NetworkPattern(**fields)


@pytest.mark.parametrize("text", ["[2002::]/16:443", "[2002:a00::]/24:443", "[2001::]/32:443", "[2001:0:1::]/48:443"])
def test_a_rule_that_could_never_match_is_refused(text: str) -> None:
    for rules in ({"allow": [text]}, {"listen": [text]}):
        with pytest.raises(PolicyError, match="is a 6to4 or Teredo network"):
            NetworkCapability(**rules)  # type: ignore[arg-type]
    assert not NetworkCapability(allow=["public:*"], deny=[text]).decide("tcp", "2002:a00::1", 443)


NOTATIONS = [
    ("EXAMPLE.com.", "example.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("0x7f.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("::ffff:127.0.0.1", "127.0.0.1"),
    ("[::1]", "::1"),
    ("2002:a00:1::", "2002:a00:1::"),
    ("a b", None),
    ("1.2.3.4.5", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "plain"), NOTATIONS)
def test_a_host_in_the_notation_that_is_judged(text: str, plain: str | None) -> None:
    assert plain_host(text) == plain


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("ftp://x", "'ftp' is not a scheme"), ("10.0.0.1/33", "prefix of more than 32 bits"), ("*", "has a '*'"),
        ("a..b", "has an empty label"), ("https//x", "has a path"), ("a.*.b", "has a '*'"), ("[::1", "has brackets"),
        ("-a-.example_", "label"), ("10.0.0.0/8/9", "has a path"),
    ],
)  # fmt: skip
def test_an_invalid_host_or_scheme_is_named_before_a_missing_port(pattern: str, fault: str) -> None:
    with pytest.raises(PolicyError) as caught:
        NetworkCapability(allow=[pattern])
    assert fault in str(caught.value)
    assert "port" not in str(caught.value).replace("supported", "").replace("support", "").partition(": end")[0]


@pytest.mark.parametrize(
    ("allow", "host", "address", "grant"),
    [
        (["https://api.example.com"], "api.example.com", "10.0.0.1", "https://10.0.0.1"),
        (["tcp://api.example.com:7"], "api.example.com", "::ffff:10.0.0.1", "tcp://10.0.0.1:7"),
        (["api.example.com:1-9"], "api.example.com", "10.0.0.1", "10.0.0.1"),
        (["api.example.com:*"], "api.example.com", "10.0.0.1", "10.0.0.1"),
        (["https://api.example.com", "tcp://api.example.com:7"], "api.example.com", "10.0.0.1", "10.0.0.1"),
        ([], "api.example.com", "10.0.0.1", "10.0.0.1"),
        (["https://api.example.com"], "api.example.com", "no address", ""),
        (["https://api.example.com"], "no host name!", "10.0.0.1", ""),
    ],
)
def test_the_grant_for_an_address_is_as_narrow_as_the_rules_of_its_name(
    allow: list[str], host: str, address: str, grant: str
) -> None:
    assert NetworkCapability(allow=tuple(allow)).missing_for(host, address) == grant
