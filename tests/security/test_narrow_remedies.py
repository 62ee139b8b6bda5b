"""The option that a denial names grants the denied request, and nothing beside it.

Oracle: the option is read as a command line is. With its grant the same request is allowed; sibling requests, each of
which differs in one property, are denied as before.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from aegis import FilesystemCapability, NetworkCapability, Policy, parse_policy
from aegis.cli.command_line import read_line
from aegis.cli.options import make_policy, run_options
from aegis.errors import CapabilityDenied
from aegis.host.keyvalue import Buckets
from aegis.policy.capabilities import CAPABILITIES, declaration
from aegis.policy.remedies import explained
from aegis.values import Decision
from tests.cli.command import aegis
from tests.host.preview2.guest import Guest
from tests.isolation.isolated import PLACES, runtime
from tests.security.test_remedies import LINUX, changing

Request = Callable[[Guest], bool]
"""Ask for something under the guest's policy; return whether it was allowed."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request that ``policy`` denies, and siblings that stay denied with the grant that the remedy names."""

    request: Request
    remedy: str
    siblings: dict[str, Request]
    policy: Policy = field(default_factory=Policy)
    answers: dict[str, list[str]] = field(default_factory=dict)


def connect(host: str, port: int, scheme: str = "tcp") -> Request:
    return lambda made: made.grants.network.may_connect(scheme, host, port)


def bind(host: str, port: int, scheme: str = "tcp") -> Request:
    return lambda made: made.grants.network.may_listen(scheme, host, port)


def ask(url: str, method: str = "GET") -> Request:
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return lambda made: made.grants.network.may_request(scheme, host, int(port), method)


def dial(url: str, answers: list[str], method: str = "GET") -> Request:
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return lambda made: bool(made.grants.network.vetted(scheme, host, int(port), method, answers))


def look_up(name: str) -> Request:
    return lambda made: made.grants.network.may_look_up(name)


@dataclass(eq=False)
class Answered:
    """A look-up that has ended."""

    name: str
    addresses: list[str]
    withheld = False


def learn(name: str, *addresses: str) -> Request:
    """Return the request for the addresses of a name that was judged."""

    def request(made: Guest) -> bool:
        lookup: Any = Answered(name, list(addresses))
        return bool(made.grants.network.answered(lookup))

    return request


def bucket(name: str) -> Request:
    return lambda made: made.grants.of(Buckets).open(name) is not None


def reading(name: str) -> Request:
    def request(made: Guest) -> bool:
        try:
            if name == "clock":
                made.of("wasi:clocks/wall-clock").now()
            else:
                made.of("wasi:random/random").get_random_bytes(1)
        except CapabilityDenied:
            return False
        return True

    return request


def allowing(*rules: str) -> Policy:
    return Policy(network=NetworkCapability(allow=rules))


NO_CLOCK = parse_policy("capabilities.clock.mode = 'deny'\ncapabilities.random.mode = 'deny'")
CASES = {
    "connect": Case(
        request=connect("93.184.216.34", 443), remedy="--allow-net tcp://93.184.216.34:443",
        siblings={
            "port": connect("93.184.216.34", 80), "host": connect("93.184.216.35", 443),
            "transport": connect("93.184.216.34", 443, "udp"), "listening": bind("93.184.216.34", 443),
            "name": look_up("a.example"),
        },
    ),
    "datagram": Case(
        request=connect("::1", 53, "udp"), remedy="--allow-net 'udp://[::1]:53'",
        siblings={"port": connect("::1", 54, "udp"), "transport": connect("::1", 53)},
    ),
    "listen": Case(
        request=bind("127.0.0.1", 8080), remedy="--listen tcp://127.0.0.1:8080",
        siblings={
            "port": bind("127.0.0.1", 8081), "host": bind("127.0.0.2", 8080), "udp": bind("127.0.0.1", 8080, "udp"),
            "connecting": connect("127.0.0.1", 8080), "a free port": bind("127.0.0.1", 0),
        },
    ),
    "look up": Case(
        request=look_up("db.example"), remedy="--allow-net tcp://db.example:PORT",
        siblings={
            "beneath": look_up("a.db.example"), "above": look_up("example"), "beside": look_up("db.example.evil"),
            "private address": learn("db.example", "10.0.0.1"), "request": ask("https://db.example:80"),
        },
    ),
    "look up beside a rule for another name": Case(
        request=look_up("b.example"), remedy="--allow-net tcp://b.example:PORT", policy=allowing("https://a.example"),
        siblings={"name": look_up("c.example"), "request": ask("https://b.example:80")},
    ),
    "answer of a name with one rule": Case(
        request=learn("db.example", "10.0.0.1"), remedy="--allow-net tcp://10.0.0.1:5432",
        policy=allowing("tcp://db.example:5432"),
        siblings={
            "address": learn("db.example", "10.0.0.2"), "port": connect("10.0.0.1", 22),
            "transport": connect("10.0.0.1", 5432, "udp"), "name": look_up("other.example"),
        },
    ),
    "answer of a name with a rule for every scheme": Case(
        request=learn("db.example", "fd00::1"), remedy="--allow-net 'tcp://[fd00::1]:5432'",
        policy=allowing("db.example:5432"),
        siblings={"port": connect("fd00::1", 22), "transport": connect("fd00::1", 5432, "udp")},
    ),
    "answer of a name for requests": Case(
        request=learn("api.example", "10.0.0.1"), remedy="--allow-net 'GET https://10.0.0.1'",
        policy=allowing("GET https://api.example"),
        siblings={"method": ask("https://10.0.0.1:443", "PUT"), "socket": connect("10.0.0.1", 443)},
    ),
    "answer of a name with several ports": Case(
        request=learn("db.example", "10.0.0.1"), remedy="--allow-net tcp://10.0.0.1:PORT",
        policy=allowing("tcp://db.example:5432", "https://db.example"),
        siblings={"port": connect("10.0.0.1", 5432), "address": learn("db.example", "10.0.0.2")},
    ),
    "answer of a name with a range of ports": Case(
        request=learn("db.example", "::ffff:10.0.0.1"), remedy="--allow-net tcp://10.0.0.1:PORT",
        policy=allowing("tcp://db.example:*"), siblings={"port": connect("10.0.0.1", 5432)},
    ),
    "answer of a name beneath": Case(
        request=learn("a.db.example", "127.0.0.1"), remedy="--allow-net tcp://127.0.0.1:5432",
        policy=allowing("tcp://*.db.example:5432"),
        siblings={"port": connect("127.0.0.1", 22), "address": learn("a.db.example", "127.0.0.2")},
    ),
    "request": Case(
        request=ask("https://api.example:443"), remedy="--allow-net 'GET https://api.example'",
        siblings={
            "method": ask("https://api.example:443", "POST"), "port": ask("https://api.example:444"),
            "scheme": ask("http://api.example:443"), "host": ask("https://b.example:443"),
            "beneath": ask("https://a.api.example:443"), "address": dial("https://api.example:443", ["10.0.0.1"]),
            "socket": connect("93.184.216.34", 443),
        },
    ),
    "request with a method that no pattern has": Case(
        request=ask("http://api.example:8080", "x_purge"), remedy="--allow-net http://api.example:8080",
        siblings={"port": ask("http://api.example:80", "x_purge"), "host": ask("http://b.example:8080", "x_purge")},
    ),
    "address of a request": Case(
        request=dial("https://api.example:443", ["10.0.0.1", "10.0.0.2"], "POST"),
        remedy="--allow-net 'POST https://10.0.0.1'", policy=allowing("https://api.example"),
        siblings={
            "address": dial("https://api.example:443", ["10.0.0.2"], "POST"),
            "method": dial("https://api.example:443", ["10.0.0.1"], "GET"), "socket": connect("10.0.0.1", 443),
        },
    ),
    "bucket": Case(
        request=bucket("cache"), remedy="--allow-keyvalue cache",
        siblings={"bucket": bucket("cache2"), "above": bucket("cach"), "case": bucket("Cache")},
    ),
    "clock": Case(
        request=reading("clock"), remedy="--allow-clock", policy=NO_CLOCK, siblings={"random": reading("random")}
    ),
    "random": Case(
        request=reading("random"), remedy="--allow-random", policy=NO_CLOCK, siblings={"clock": reading("clock")}
    ),
}  # fmt: skip


def granted(remedy: str) -> Policy:
    """Return the policy of ``aegis run REMEDY m.wasm``; the user replaces the word that the message explains."""
    words = shlex.split(remedy.replace(":PORT", ":443"))
    known = run_options(words)
    options = read_line([*words, "m.wasm"], known, guest=True).values(known)
    assert options is not None
    made = make_policy((), options, capture=True)
    return Policy(
        **{row.name: getattr(made, row.name) for row in CAPABILITIES if row.name != "stdio"}, named=made.named
    )


@pytest.mark.parametrize("name", CASES)
def test_the_grant_of_a_remedy_allows_the_request_and_none_of_its_siblings(name: str) -> None:
    case = CASES[name]
    for sibling, request in case.siblings.items():
        with guest_of(case.policy) as before:
            assert not request(before), f"{sibling} is no sibling: it is allowed without the grant"
    with guest_of(case.policy) as denied:
        assert not case.request(denied)
        assert denied.denied == [case.remedy]
    with guest_of(case.policy.merged(granted(case.remedy))) as allowed:
        assert case.request(allowed)
        for sibling, request in case.siblings.items():
            assert not request(allowed), sibling


def guest_of(policy: Policy) -> Guest:
    """Return a guest under a policy."""
    return Guest(**{row.name: getattr(policy, row.name) for row in CAPABILITIES})


def test_every_capability_with_remedies_has_cases() -> None:
    """Files have theirs below: their request needs a guest."""
    proposing = {flag for row in CAPABILITIES if declaration(row.name).remedy for flag in row.flags} - {"--deny-net"}
    tried = {case.remedy.split()[0] for case in CASES.values()} | {"--allow-write"}
    assert proposing - tried == {"--allow-read"}, "no denial of a path can be granted by reading alone"


@pytest.mark.parametrize("place", [PLACES[0], pytest.param(PLACES[-1], marks=LINUX)])
def test_the_grant_of_a_write_is_for_the_directory_that_the_guest_holds(place: str, tmp_path: Any) -> None:
    """Another directory stays read-only, and no path of the guest becomes a path of the host.

    A grant of a directory further down could follow a symbolic link there to any place of the host.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "link").symlink_to("/etc")
    policy = Policy(filesystem=FilesystemCapability.read_only(f"{tmp_path}/one::/one", f"{tmp_path}/two::/two"))
    raw = Decision("filesystem", "write", "/one/link/x", False, "read-only", wanted="/one/link/x")
    remedy = explained(policy, raw).remedy
    assert remedy == f"--allow-write {tmp_path}/one::/one"
    made = policy.merged(granted(remedy)).filesystem
    assert [(grant.guest, grant.write) for grant in made.paths] == [("/one", True), ("/two", False)]
    with runtime(place, filesystem=made) as runtime_, runtime_.sandbox(runtime_.load_wat(changing("new"))) as box:
        assert box.run("_start").denials == ()
    assert (tmp_path / "one" / "new").is_dir()
    second = changing("new").replace("(i32.const 3)", "(i32.const 4)", 1)
    with runtime(place, filesystem=made) as runtime_, runtime_.sandbox(runtime_.load_wat(second)) as box:
        (denial,) = box.run("_start").denials
    assert denial.remedy == f"--allow-write {tmp_path}/two::/two"


def test_a_line_explains_the_word_that_stands_for_a_port() -> None:
    from aegis.cli.run import _CommandRun

    run = _CommandRun.__new__(_CommandRun)
    run.policy, run.denials = Policy(), {}
    for name, decision in {
        "db.example": Decision("network", "look up", "db.example", False, "nothing allows it", wanted="db.example"),
        "h": Decision("network", "connect to", "tcp://h:1", False, "nothing allows it", wanted="tcp://h:1"),
    }.items():
        run.denied(explained(run.policy, decision))
        assert name in [*run.denials][-1]
    assert [*run.denials] == [
        "denied: look up db.example (network): grant it with --allow-net tcp://db.example:PORT, "
        "where PORT is the port that the guest connects to",
        "denied: connect to tcp://h:1 (network): grant it with --allow-net tcp://h:1",
    ]
    ended = aegis("run", "--allow-net", "tcp://db.example:PORT", "m.wasm")
    assert ended.code == 125
    assert "'tcp://db.example:PORT' does not end in a port: write :443" in ended.err
