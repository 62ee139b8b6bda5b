"""A compromised worker: its parent looks names up, and checks each name and each address against the policy."""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any

import pytest

import aegis as package
from aegis import NetworkCapability, WorkerCrashed
from aegis.host.net.resolver import resolvers
from tests.isolation.names import Names, sockets_and_files
from tests.isolation.peers import echo
from tests.isolation.takeover import captive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")

NETWORK = NetworkCapability(allow=["tcp://*.example:80", "https://public.example", "public:443"])


@pytest.fixture(autouse=True, scope="module")
def _fork_server() -> None:
    """Start the fork server, whose socket stays open, before descriptors are counted."""
    with captive():
        pass


def test_a_worker_has_names_looked_up_by_its_parent(names: Names) -> None:
    with captive(network=NETWORK) as attacker:
        assert attacker("look_up", name="db.example") == {"found": ["93.184.216.34"], "error": None, "withheld": False}
        assert attacker("look_up", name="absent.example")["error"] == socket.EAI_NONAME
    assert names.asked == ["db.example", "absent.example"]


def test_a_name_that_the_policy_does_not_allow_is_never_asked_for(names: Names) -> None:
    rules = NetworkCapability(allow=["tcp://*.example:80"], deny=["bad.example"])
    asked = ["evil.test", "bad.example", "BAD.EXAMPLE.", "127.0.0.1", "localhost", "a b.example", "x.example\n", ""]
    with captive(network=rules) as attacker:
        answers = attacker("ask_for_names", names=list(enumerate(asked)), answers=len(asked))
    assert answers == [[number, [], True, None] for number in range(len(asked))]
    assert names.asked == []


def test_an_address_that_the_policy_withholds_is_not_sent_to_the_worker(names: Names) -> None:
    events: list[Any] = []
    with captive(network=NETWORK, subscribers=[events.append]) as attacker:
        assert attacker("ask_for_names", names=[(1, "inner.example")], answers=1) == [[1, [], True, None]]
        assert attacker("look_up", name="inner.example") == {"found": [], "error": None, "withheld": True}
    assert names.asked == ["inner.example"] * 2
    denied = [event.rule for event in events if event.kind == "capability_checked" and not event.allowed]
    assert len(denied) == 2
    assert all("10.0.0.7 is a private address" in rule for rule in denied)


MALFORMED = [
    [(1, "a.example"), (1, "b.example")],  # one number for two names
    [(n, f"a{n}.example") for n in range(5)],  # more than are permitted at once
    [(-1, "a.example")],
    [(1 << 60, "a.example")],
    [("1", "a.example")],
    [(1, 5)],
    [(1, "a" * 300 + ".example")],
]


@pytest.mark.parametrize("asked", MALFORMED, ids=str)
def test_a_worker_cannot_flood_its_parent_with_names(asked: list[Any], names: Names) -> None:
    names.go.clear()
    with captive(network=NETWORK) as attacker, pytest.raises(WorkerCrashed, match="broke the protocol"):
        attacker("ask_for_names", names=asked, answers=9)
    names.go.set()
    assert len(names.asked) <= 4


def test_look_ups_of_a_worker_count_as_host_calls(names: Names) -> None:
    with (
        captive(network=NETWORK, host_calls=3) as attacker,
        pytest.raises(WorkerCrashed, match="than the host-call limit"),
    ):
        attacker("ask_for_names", names=[(n, "evil.test") for n in range(9)], answers=9)


def test_a_worker_without_a_network_cannot_have_names_looked_up(names: Names) -> None:
    with captive() as attacker, pytest.raises(WorkerCrashed, match="look-up without a network grant"):
        attacker("resolve_blindly", name="db.example")
    assert names.asked == []


def test_a_sandbox_that_ends_removes_its_names_from_the_queue(names: Names) -> None:
    names.go.clear()
    before = sockets_and_files()
    for _ in range(4):
        with captive(network=NETWORK) as attacker:
            attacker("begin_look_ups", names=[f"a{n}.example" for n in range(4)])
    assert len(resolvers._queue) == 0
    assert sockets_and_files() == before
    names.go.set()


def test_a_look_up_by_the_parent_ends_at_the_deadline_of_the_call(names: Names) -> None:
    names.go.clear()
    with captive(network=NETWORK, timeout=0.3) as attacker, pytest.raises(package.DeadlineExceeded):
        attacker("look_up", name="db.example")


SPELLINGS = [
    "fa\u00df.example", "fass.example", "FASS.example.", "\uff46ass.example", "xn--fa-hia.example", "fass\u3002example",
]  # fmt: skip


def test_a_name_is_asked_for_in_the_spelling_that_was_judged(names: Names) -> None:
    rules = NetworkCapability(allow=["tcp://fass.example:80"])
    with captive(network=rules) as attacker:
        answers = attacker("ask_for_names", names=[(n, name) for n, name in enumerate(SPELLINGS[:4])], answers=4)
        answers += attacker("ask_for_names", names=[(n + 4, name) for n, name in enumerate(SPELLINGS[4:])], answers=2)
    assert set(names.asked) == {"fass.example"}
    withheld = {SPELLINGS[answer[0]] for answer in answers if answer[2]}
    assert {"fa\u00df.example", "xn--fa-hia.example"} <= withheld


@pytest.mark.parametrize("port", [None, 5432])
def test_an_address_of_an_allowed_name_is_reached_at_the_ports_of_its_rule(names: Names, port: int | None) -> None:
    """The look-up permits the address: a worker that uses it before is denied, even if it knows the address."""
    names.known["inner.localhost"] = ["127.0.0.1"]
    with echo() as (open_port, _):
        rules = NetworkCapability(allow=[f"tcp://inner.localhost:{open_port}", f"tcp://127.0.0.1:{port or open_port}"])
        with captive(network=rules) as attacker:
            order = {"host": "127.0.0.1", "port": open_port}
            assert attacker("reach_by_parent", **order) == ("ping" if port is None else errno.EACCES)
            attacker("ask_for_names", names=[(0, "inner.localhost")], answers=1)
            assert attacker("reach_by_parent", **order) == ("ping" if port is None else errno.EACCES)
