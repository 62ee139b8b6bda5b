"""Network grants: which hosts a guest may connect to, and on which addresses it may listen.

Nothing here resolves a name or opens a socket. The host calls :meth:`NetworkCapability.decide` twice: with the name
before it resolves the name, and with each address before it connects to that address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aegis.errors import PolicyError
from aegis.policy import addresses
from aegis.policy.patterns import IMPLIED_PORTS, MAX_PORT, NetworkPattern, host_name, invalid, read_host
from aegis.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from aegis.policy.addresses import Address
    from aegis.policy.declaration import Declaration
    from aegis.policy.toml_table import TomlTable
    from aegis.values import Decision

__all__ = ["NetworkCapability", "NetworkPattern", "NetworkVerdict"]


@dataclass(frozen=True, slots=True)
class NetworkVerdict:
    """The decision on one use of the network; ``rule`` is the rule that decided, or the reason for a denial.

    A verdict is true if the use is allowed.
    """

    allowed: bool
    rule: str

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True, init=False)
class NetworkCapability:
    """The hosts that a guest may connect to, and the addresses that it may listen on. The default is none.

    ``allow`` permits connections, ``deny`` removes some of them, ``listen`` permits listening. Each is a list of
    :class:`NetworkPattern` values or of text in their notation. In ``deny`` a pattern may omit the port, which then
    means every port. Raise :class:`~aegis.errors.PolicyError` for an invalid pattern.

    ``deny`` takes precedence over ``allow``. A denied *name* is denied for every scheme and port. Aegis does not
    resolve it. If another name turns out to be an alias of it, the addresses of that alias are unreachable over every
    transport until the sandbox ends, and open connections to them are closed. An address that no lookup has connected
    with the name is not affected: deny it by IP or CIDR too.

    A denied *IP, CIDR or class* is denied at the ports of its pattern: ``udp`` over UDP; ``tcp`` over TCP, which
    carries HTTP; ``http`` and ``https`` over TCP and over UDP, which carries HTTP/3; without a scheme over all of them.
    Such peers cannot connect or send datagrams to a listening guest either. ``deny`` does not restrict the addresses
    that the guest listens on: ``listen`` alone names those.

    >>> rules = NetworkCapability(allow=["https://*.example.com"], deny=["internal.example.com"])
    >>> bool(rules.decide("https", "api.example.com", 443)), bool(rules.decide("https", "internal.example.com", 443))
    (True, False)
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
                raise invalid(str(pattern), "has a method, which only allow supports: allow the other methods instead")
        for pattern in self.allow + self.listen:
            if pattern.is_tunnel():
                raise invalid(
                    str(pattern), "is a 6to4 or Teredo network: name the embedded IPv4 addresses, or deny the network"
                )
        for pattern in self.allow + self.deny:
            if pattern.ports == (0, 0):
                raise invalid(str(pattern), "has port 0, which cannot be connected to: write :* for every port")
        for pattern in self.listen:
            if pattern.kind in ("name", "beneath"):
                raise invalid(
                    str(pattern), "listens on a name: write an IP such as tcp://127.0.0.1:8080, a CIDR or local"
                )

    def __add__(self, other: NetworkCapability) -> NetworkCapability:
        return NetworkCapability(
            allow=self.allow + other.allow, deny=self.deny + other.deny, listen=self.listen + other.listen
        )

    def merged(self, other: NetworkCapability, named: Collection[str] = ()) -> NetworkCapability:
        """Return the patterns of both. A denial of either takes precedence over what both allow."""
        return self + other

    def decide(
        self, scheme: str, host: str, port: int, *, address: str | None = None, method: str | None = None
    ) -> NetworkVerdict:
        """Decide whether the guest may connect to ``host`` at ``port``.

        ``address`` is the address of ``host`` to connect to. ``method`` is the method of the HTTP request to send;
        without it, patterns with a method do not match.

        For a name without ``address``, the verdict covers only the lookup of the name. Its addresses may still be
        denied: a pattern with a name allows public addresses only.
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
        """Decide whether the guest may resolve a name, without regard to a scheme or port.

        A pattern must permit the lookup (:class:`NetworkPattern`), because a lookup sends the name to a resolver.
        Each address in the answer needs a decision of its own.
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
        """Return the pattern of ``deny`` that matches a normalised host name, or ``None``."""
        return next((rule for rule in self.deny if rule.fits_name(name)), None)

    def decide_answer(self, host: str, address: str) -> NetworkVerdict:
        """Decide whether the guest may learn an ``address`` of ``host``: a connection to some port must be allowed."""
        found, name = addresses.read_address(address), host_name(host)
        if found is None or name is None:
            return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address of {printable(host, 80)}")
        carried = addresses.judged(found)
        for rule in self.deny:
            whole = rule.scheme is None and rule.ports == (0, MAX_PORT)
            if rule.fits_name(name) or (whole and _denies_address(rule, found, carried)):
                return NetworkVerdict(False, f"deny {rule}")
        public = addresses.address_class(carried) == "public"
        for rule in self.allow:
            if rule.fits_address(carried) or (public and rule.fits_name(name)):
                return NetworkVerdict(True, f"allow {rule}")
        return NetworkVerdict(False, _closed(name, carried))

    def missing_for(self, host: str, address: str) -> str:
        """Return the narrowest grant by which the guest may learn an ``address`` of ``host``.

        The rules that allow the name tell scheme and port if they agree. Otherwise the result is the address alone,
        because a look-up has no port.
        """
        found, name = addresses.read_address(address), host_name(host)
        if found is None or name is None:
            return ""
        by_address = str(addresses.judged(found))
        rules = {
            replace(rule, host=by_address, scheme=rule.scheme or "tcp")
            for rule in self.allow
            if rule.lets_look_up(name)
        }
        one = rules.pop() if len(rules) == 1 else None
        return by_address if one is None or one.ports[0] < one.ports[1] else str(one)

    def decide_peer(self, scheme: str, address: str, port: int) -> NetworkVerdict:
        """Decide whether a peer may connect or send to a listening guest; only ``deny`` counts."""
        found = addresses.read_address(address)
        if found is None:
            return NetworkVerdict(False, f"'{printable(address, 80)}' is not an address")
        carried = addresses.judged(found)
        for rule in self.deny:
            if rule.keeps_from(scheme, port) and _denies_address(rule, found, carried):
                return NetworkVerdict(False, f"deny {rule}")
        return NetworkVerdict(True, "listen")

    def decide_listen(self, scheme: str, host: str, port: int) -> NetworkVerdict:
        """Decide whether the guest may bind to and listen on the address ``host``; only ``listen`` counts."""
        fault = _fault(scheme, port)
        if fault:
            return NetworkVerdict(False, fault)
        found = addresses.read_address(host)
        if found is None:
            return NetworkVerdict(False, f"'{printable(host, 80)}' is not an address to listen on")
        address = addresses.judged(found)
        for rule in self.listen:
            if rule.fits_port(scheme, port) and rule.fits_address(address):
                return NetworkVerdict(True, f"listen {rule}")
        return NetworkVerdict(False, _nothing("listening at", scheme, str(address), port))

    def describe(self) -> list[str]:
        """Return one line for each pattern of ``allow``, ``listen`` and ``deny``."""
        lines = [f"network {rule}" for rule in self.allow] + [f"network listening at {rule}" for rule in self.listen]
        return lines + [f"network never {rule.with_ports()}" for rule in self.deny]

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
        raise PolicyError(f'network: {what} must be a list of patterns, such as ["https://api.example.com"]')
    parsed = (
        item if isinstance(item, NetworkPattern) else NetworkPattern.parse(item, any_port=what == "deny")
        for item in value
    )
    return tuple(dict.fromkeys(parsed))


def _fault(scheme: str, port: int) -> str | None:
    if scheme not in IMPLIED_PORTS:
        return f"'{printable(scheme, 80)}' is not a supported scheme"
    return None if 0 <= port <= MAX_PORT else f"{port} is not a port"


def _denies_address(rule: NetworkPattern, found: Address | None, address: Address | None) -> bool:
    """Return whether a pattern matches the address as given, or its embedded IPv4 address."""
    return any(a is not None and rule.fits_address(a) for a in (found, address))


def _nothing(what: str, scheme: str, host: str, port: int, method: str | None = None) -> str:
    shown = f"[{host}]" if ":" in host else host
    asked = f"{printable(method, 32)} " if method else "" if what == "allows" else f"{what} "
    return f"nothing allows {asked}{scheme}://{shown}:{port}"


def _closed(name: str, address: Address) -> str:
    named = addresses.named_by(address)
    by = "by IP or CIDR" if named is None else f"as {named}, by IP or CIDR"
    kind = addresses.address_class(address)
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{name} is allowed, but {address} is {article} {kind} address, which must be allowed {by}"


# -- the surfaces ----------------------------------------------------------------------------------


def declared() -> Declaration:
    """Return the declaration of the capability."""
    from aegis.policy.declaration import Declaration, Flag, Key

    return Declaration(
        title="network",
        needs="--allow-net https://HOST or tcp://HOST:PORT, --listen; "
        "without a grant every address and request is denied",
        builder="Set the network rules for components: a capability, or patterns of allowed connections.",
        accepts="Network", short=_short,
        flags=(
            Flag(
                name="--allow-net", metavar="PATTERN",
                help="Allow connections to https://HOST, GET https://HOST, tcp://IP:PORT … and resolving the name.",
            ),
            Flag(name="--listen", help="Allow listening on tcp://127.0.0.1:8080 …", metavar="PATTERN"),
            Flag(name="--deny-net", help="Deny connections; overrides --allow-net.", metavar="PATTERN"),
        ),
        stated=_stated,
        summary="Patterns that a guest may reach or listen at.",
        tables=lambda: {
            "": {
                "allow": Key("list of patterns", "Patterns that the guest may reach."),
                "deny": Key("list of patterns", "Patterns that it may not reach; deny wins over allow."),
                "listen": Key("list of patterns", "Addresses at which the guest may listen."),
            }
        },
        read=_read,
        write=lambda granted: {
            "allow": [*map(str, granted.allow)],
            "deny": [rule.with_ports() for rule in granted.deny],  # without a port a denial means every port
            "listen": [*map(str, granted.listen)],
        },
        remedy=_remedy,
    )  # fmt: skip


def _stated(options: Mapping[str, Any]) -> NetworkCapability:
    allow, deny = options.get("allow_net", ()), options.get("deny_net", ())
    return NetworkCapability(allow=allow, deny=deny, listen=options.get("listen", ()))


def _read(table: TomlTable) -> NetworkCapability:
    rules = NetworkCapability()
    for key in table.values:
        for n, text in enumerate(table.strings(key)):
            rules += table.at((key, n), NetworkCapability, **{key: [text]})
    return rules


def _remedy(policy: Any, decision: Decision) -> str:
    """Return the option that allows the one host or address at the one port, or ``""``.

    A host named ``public`` gets no option, because the pattern would allow the whole class. A look-up has no port, so
    the option has the word ``PORT`` in its place.
    """
    from aegis.policy.declaration import option_text

    if decision.rule.startswith("deny "):
        return ""
    wanted = decision.wanted
    portless = decision.action == "look up" and "://" not in wanted
    if portless:
        wanted = f"tcp://[{wanted}]:1" if ":" in wanted else f"tcp://{wanted}:1"
    try:
        pattern = NetworkPattern.parse(wanted)
    except PolicyError:
        return ""
    single = pattern.kind in ("name", "network") and "/" not in pattern.host and pattern.ports[0] == pattern.ports[1]
    if not single:
        return ""
    text = f"{str(pattern)[:-1]}PORT" if portless else str(pattern)
    return option_text("--listen" if decision.action == "listen at" else "--allow-net", text)


def _short(value: Any) -> Any:
    from aegis.policy.short_form_parsers import texts

    return value if hasattr(value, "keys") else NetworkCapability(allow=texts(value))
