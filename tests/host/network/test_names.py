"""Name look-ups: permitted names, returned addresses, and a slow resolver that blocks neither guest nor host."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aegis.bindings.wasi_sockets_network import IpAddressIpv4, IpAddressIpv6
from aegis.errors import DeadlineExceeded
from aegis.host.net.network import Network
from aegis.host.net.resolver import RESOLVER_THREADS, ResolverPool, resolvers
from aegis.limits import Limits
from aegis.policy import NetworkCapability
from tests.host.http.servers import raw_server
from tests.host.network.wire import at, echo, guest, look_up, names, tcp
from tests.host.preview2.guest import Guest, descriptors, refusal


class Waiting:
    """A resolver that returns when the test allows it."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), 0

    def __call__(self, name: str) -> list[str]:
        self.asked += 1
        self.go.wait()
        return ["93.184.216.34"]


def ended() -> None:
    """Wait for the look-up threads to end."""
    for thread in threading.enumerate():
        if thread.name == "aegis-resolver":
            thread.join(20)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    made = Waiting()
    yield made
    made.go.set()
    ended()


def begin(made: Guest, name: str = "a.example") -> Any:
    return made.of("wasi:sockets/ip-name-lookup").resolve_addresses(None, name)


# -- what may be asked, and is answered ----------------------------------------------------------------


def test_an_allowed_names_address_is_connected_to() -> None:
    with raw_server(echo) as port:
        for rules, code in (
            ((f"db.example:{port}",), "name-unresolvable"),
            ((f"db.example:{port}", f"local:{port}"), ""),
        ):
            with guest(*rules, resolver=names(db_example=["127.0.0.1"])) as made:
                if code:
                    assert refusal(look_up, made, "db.example") == code
                    assert made.denied == [f"--allow-net tcp://127.0.0.1:{port}"]
                    assert refusal(tcp(made).start_connect, None, at(port)) == "access-denied"
                    continue
                assert look_up(made, "db.example") == [IpAddressIpv4((127, 0, 0, 1))]
                opened = tcp(made)
                opened.start_connect(None, at(port))
                opened.subscribe().block()
                reading, writing = opened.finish_connect()
                writing.blocking_write_and_flush(b"found")
                assert reading.blocking_read(9) == b"found"


def test_decisions_are_recorded() -> None:
    with guest("db.example:1", resolver=names(db_example=["10.0.0.1"])) as made:
        refusal(look_up, made, "db.example")
        refusal(look_up, made, "evil.example")
        assert [tuple(decision)[:4] for decision in made.decisions] == [
            ("network", "look up", "db.example", True),
            ("network", "look up", "db.example", False),
            ("network", "look up", "evil.example", False),
        ]
        assert made.denied == ["--allow-net tcp://10.0.0.1:1", "--allow-net tcp://evil.example:PORT"]
        assert "10.0.0.1 is a private address" in made.decisions[1].rule


def test_a_private_address_is_given_where_a_rule_names_it_too() -> None:
    known = names(db_example=["10.0.0.5", "10.1.0.5", "1.1.1.1", "127.0.0.1"])
    with guest("tcp://db.example:5432", "tcp://10.0.0.0/16:5432", resolver=known) as made:
        assert look_up(made, "db.example") == [IpAddressIpv4((10, 0, 0, 5)), IpAddressIpv4((1, 1, 1, 1))]
        assert made.grants.network.may_connect("tcp", "10.0.0.5", 5432)
        assert not made.grants.network.may_connect("tcp", "10.1.0.5", 5432)


def test_a_denied_answer_is_not_given_though_its_name_is_allowed() -> None:
    known = names(db_example=["1.1.1.1", "8.8.8.8"])
    with guest("db.example:*", deny=("1.0.0.0/8",), resolver=known) as made:
        assert look_up(made, "db.example") == [IpAddressIpv4((8, 8, 8, 8))]
        assert not made.grants.network.may_connect("tcp", "1.1.1.1", 443)


def test_an_address_is_reached_by_any_of_its_names_and_by_no_other_rule() -> None:
    known = names(a_example=["1.1.1.1"], b_example=["1.1.1.1"])
    with guest("tcp://a.example:1", "tcp://b.example:2", "tcp://c.example:3", resolver=known) as made:
        network = made.grants.network
        assert not any(network.may_connect("tcp", "1.1.1.1", port) for port in (1, 2, 3))
        look_up(made, "a.example")
        assert [network.may_connect("tcp", "1.1.1.1", port) for port in (1, 2, 3)] == [True, False, False]
        look_up(made, "b.example")
        assert [network.may_connect("tcp", "1.1.1.1", port) for port in (1, 2, 3)] == [True, True, False]
        assert not network.may_connect("udp", "1.1.1.1", 1)


def test_addresses_looked_up_by_one_sandbox_are_not_reachable_by_another() -> None:
    with guest("tcp://a.example:1", resolver=names(a_example=["1.1.1.1"])) as one, guest("tcp://a.example:1") as other:
        look_up(one, "a.example")
        assert one.grants.network.may_connect("tcp", "1.1.1.1", 1)
        assert not other.grants.network.may_connect("tcp", "1.1.1.1", 1)


def test_only_returned_addresses_may_be_reached() -> None:
    known = names(db_example=["1.1.1.1", "1.1.1.2", "1.1.1.3"])
    with guest("db.example:*", resolver=known, limits={"resolver_answers": 2}) as made:
        assert len(look_up(made, "db.example")) == 2
        reached = [made.grants.network.may_connect("tcp", f"1.1.1.{n}", 1) for n in (1, 2, 3)]
        assert reached == [True, True, False]


def test_an_answer_in_any_notation_is_the_address_that_it_is() -> None:
    known = names(db_example=["2606:4700:0000::0001", "1572395042", "0x1.1.1.1", "2606:4700::2%eth0", "nonsense", ""])
    with guest("tcp://db.example:1", resolver=known) as made:
        assert look_up(made, "db.example") == [
            IpAddressIpv6((0x2606, 0x4700, 0, 0, 0, 0, 0, 1)),
            IpAddressIpv4((93, 184, 216, 34)),
            IpAddressIpv4((1, 1, 1, 1)),
            IpAddressIpv6((0x2606, 0x4700, 0, 0, 0, 0, 0, 2)),
        ]
        for address in ("2606:4700::1", "93.184.216.34", "1.1.1.1", "2606:4700::2"):
            assert made.grants.network.may_connect("tcp", address, 1)


@pytest.mark.parametrize("name", ["A.Example", "a.example.", "a.example"])
def test_a_name_in_any_spelling_is_asked_for_once(name: str) -> None:
    asked: list[str] = []
    with guest("tcp://a.example:1", resolver=lambda n: asked.append(n) or ["1.1.1.1"]) as made:  # type: ignore[func-returns-value]
        assert len(look_up(made, name)) == 1
        assert [n.lower() for n in asked] == ["a.example"]
        assert made.grants.network.may_connect("tcp", "1.1.1.1", 1)


NO_NAMES = ["", "a b", "a\0.example", "-a.example", "a..example", "http://a.example", "1.2.3.999", "x" * 64, "y." * 127]


@pytest.mark.parametrize("name", [*NO_NAMES, "é" * 100], ids=range(len(NO_NAMES) + 1))
def test_an_invalid_name_is_not_looked_up(name: str) -> None:
    asked: list[str] = []
    with guest("public:*", "*.example:*", resolver=lambda n: asked.append(n) or []) as made:  # type: ignore[func-returns-value]
        assert refusal(begin, made, name) in ("invalid-argument", "access-denied")
        assert asked == []


# -- resolvers that fail, or do not answer -------------------------------------------------------------


def raising(error: Exception) -> Callable[[str], list[str]]:
    def resolve(name: str) -> list[str]:
        raise error

    return resolve


ERRORS: list[tuple[Exception, str]] = [
    (socket.gaierror(socket.EAI_NONAME, ""), "name-unresolvable"),
    (socket.gaierror(socket.EAI_AGAIN, ""), "temporary-resolver-failure"),
    (socket.gaierror(socket.EAI_FAIL, ""), "permanent-resolver-failure"),
    (OSError("anything"), "permanent-resolver-failure"),
    (UnicodeError("label too long"), "permanent-resolver-failure"),
    (RuntimeError("a fault of the resolver's own"), "permanent-resolver-failure"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[repr(error) for error, _ in ERRORS])
def test_a_failure_of_a_resolver_is_reported_at_every_read(error: Exception, code: str) -> None:
    with guest("*.example:*", resolver=raising(error)) as made:
        stream = begin(made)
        stream.subscribe().block()
        assert refusal(stream.resolve_next_address) == code
        assert refusal(stream.resolve_next_address) == code
        assert stream.subscribe().ready()


def test_the_end_of_the_answers_is_reported_at_every_read() -> None:
    with guest("*.example:*", resolver=names(a_example=["1.1.1.1"])) as made:
        stream = begin(made)
        stream.subscribe().block()
        assert stream.resolve_next_address() == IpAddressIpv4((1, 1, 1, 1))
        assert stream.resolve_next_address() is None
        assert stream.resolve_next_address() is None


def test_a_lookup_that_never_returns_ends_at_the_deadline(waiting: Waiting) -> None:
    with guest("*.example:*", resolver=waiting, timeout=0.2) as made:
        stream = begin(made)
        assert refusal(stream.resolve_next_address) == "would-block"
        assert not stream.subscribe().ready()
        with pytest.raises(DeadlineExceeded):
            made.of("wasi:io/poll").poll([stream.subscribe()])


def test_lookups_that_were_given_up_still_count(waiting: Waiting) -> None:
    """Each look-up has a thread that cannot be interrupted: a guest that drops and repeats must not have many."""
    with guest("*.example:*", resolver=waiting) as made:
        codes = []
        for n in range(20):
            with contextlib.suppress(AssertionError):
                codes.append(refusal(lambda n=n: begin(made, f"a{n}.example").__drop__()))
        assert waiting.asked <= 4
        assert codes == ["new-socket-limit"] * 16
        waiting.go.set()
        ended()
        assert len(look_up(made, "a.example")) == 1


def test_a_lookup_counts_as_a_socket(waiting: Waiting) -> None:
    with guest("*.example:*", resolver=waiting, limits={"sockets": 2}) as made:
        opened, stream = tcp(made), begin(made)
        assert refusal(tcp, made) == "new-socket-limit"
        assert refusal(begin, made) == "new-socket-limit"
        waiting.go.set()
        stream.subscribe().block()
        stream.resolve_next_address()
        tcp(made)
        opened.__drop__()
        begin(made)


def test_a_pollable_that_outlives_its_lookup_is_ready(waiting: Waiting) -> None:
    with guest("*.example:*", resolver=waiting) as made:
        stream = begin(made)
        pollable = stream.subscribe()
        assert not pollable.ready()
        stream.__drop__()
        pollable.block()
        assert made.of("wasi:io/poll").poll([pollable]) == [0]


@pytest.mark.parametrize("dropped", [False, True])
def test_no_descriptor_is_left_of_a_lookup(dropped: bool, waiting: Waiting) -> None:
    before = descriptors()
    with guest("*.example:*", resolver=waiting) as made:
        stream = begin(made)
        assert not descriptors() <= before
        if dropped:
            stream.__drop__()
            assert descriptors() <= before
    assert descriptors() <= before
    waiting.go.set()
    ended()
    assert descriptors() <= before


# -- the threads that wait for the resolver ------------------------------------------------------------


def resolver_threads() -> int:
    return sum(thread.name == "aegis-resolver" for thread in threading.enumerate())


def test_the_look_ups_of_many_sandboxes_share_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = threading.Semaphore(0), threading.Event()

    def slow(name: str, *_: Any, **__: Any) -> list[Any]:
        asked.release()
        go.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    before = descriptors()
    with contextlib.ExitStack() as opened:
        opened.callback(ended)
        opened.callback(go.set)
        for _ in range(100):
            with guest("*.example:*") as made:
                for n in range(4):
                    begin(made, f"a{n}.example")
            assert descriptors() <= before
        for _ in range(RESOLVER_THREADS):
            assert asked.acquire(timeout=20)
        assert resolver_threads() == RESOLVER_THREADS
        assert not asked.acquire(blocking=False)
        assert not resolvers._queue


def test_a_look_up_waits_in_line_until_a_thread_is_free(waiting: Waiting) -> None:
    with contextlib.ExitStack() as opened:
        busy = [opened.enter_context(guest("*.example:*", resolver=waiting)) for _ in range(RESOLVER_THREADS // 4)]
        for made in busy:
            for n in range(4):
                begin(made, f"a{n}.example")
        last = opened.enter_context(guest("*.example:*", resolver=names(late_example=["1.1.1.1"])))
        stream = begin(last, "late.example")
        assert refusal(stream.resolve_next_address) == "would-block"
        waiting.go.set()
        stream.subscribe().block()
        assert stream.resolve_next_address() == IpAddressIpv4((1, 1, 1, 1))


def test_a_look_up_that_waits_in_line_ends_at_the_deadline(waiting: Waiting) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(RESOLVER_THREADS // 4):
            made = opened.enter_context(guest("*.example:*", resolver=waiting))
            for n in range(4):
                begin(made, f"a{n}.example")
        last = opened.enter_context(guest("*.example:*", resolver=names(late_example=["1.1.1.1"]), timeout=0.2))
        with pytest.raises(DeadlineExceeded):
            begin(last, "late.example").subscribe().block()


def test_a_look_up_that_leaves_the_line_is_never_asked_and_no_longer_counts(waiting: Waiting) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(RESOLVER_THREADS // 4):
            made = opened.enter_context(guest("*.example:*", resolver=waiting))
            for n in range(4):
                begin(made, f"a{n}.example")
        asked: list[str] = []
        last = opened.enter_context(guest("*.example:*", resolver=lambda n: asked.append(n) or ["1.1.1.1"]))  # type: ignore[func-returns-value]
        for n in range(20):
            begin(last, f"b{n}.example").__drop__()
        stream = begin(last, "kept.example")
        waiting.go.set()
        stream.subscribe().block()
        assert asked == ["kept.example"]


def test_a_fork_of_the_process_has_resolver_threads_of_its_own() -> None:
    pool, stuck, answers = ResolverPool(1), threading.Event(), queue.Queue[list[str]]()
    pool.ask("a.example", lambda name: stuck.wait() and [], lambda found, error: None)  # type: ignore[arg-type, return-value]
    pool.reset()
    pool.ask("b.example", lambda name: ["1.1.1.1"], lambda found, error: answers.put(found))
    assert answers.get(timeout=20) == ["1.1.1.1"]
    stuck.set()


def test_without_a_thread_to_answer_it_a_look_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = descriptors()
    with guest("*.example:*", resolver=names(a_example=["1.1.1.1"])) as made:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            assert refusal(begin, made) == "new-socket-limit"
        assert descriptors() <= before
        assert len(look_up(made, "a.example")) == 1


def test_a_network_asks_the_resolver_that_it_was_given() -> None:
    with Guest() as made:
        network = Network(NetworkCapability(allow=["a.example:1"]), Limits(), made.door, names(a_example=["1.1.1.1"]))
        lookup = network.look_up("a.example")
        made.door.wait(20, read=(lookup.descriptor,))
        assert network.answered(lookup) == ["1.1.1.1"]
        lookup.close()
        network.close()
