from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import errors
from aegis.errors import AegisError, CapabilityDenied, GuestExit, GuestTrap, OutOfFuel
from aegis.observe import Outcome, Usage
from aegis.values import Decision
from aegis.wit.err import Err

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AegisError)]


def bare(kind: type[AegisError]) -> AegisError:
    """Return an instance without the arguments that the class requires."""
    if issubclass(kind, errors.ArtifactNotFound):
        return kind("no such file")  # OSError initialises itself in __new__
    error = kind.__new__(kind)
    if isinstance(error, GuestExit):
        error.code = 3
    return error


def test_a_call_that_returned() -> None:
    outcome = Outcome(value=5)
    assert (outcome.status, outcome.exit_code, outcome.ok, outcome.unwrap()) == ("returned", 0, True, 5)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_has_an_outcome_that_is_no_success(kind: type[AegisError]) -> None:
    error = bare(kind)
    outcome = Outcome.from_error(error, usage=Usage(fuel=1), stdout=b"o", stderr=b"e")
    assert outcome.status == kind.kind
    assert 0 < outcome.exit_code < 256
    assert (outcome.usage.fuel, outcome.stdout, outcome.stderr) == (1, b"o", b"e")
    assert not outcome.ok
    with pytest.raises(kind) as caught:
        outcome.unwrap()
    assert caught.value is error


def test_an_exit_with_zero_is_a_success() -> None:
    outcome = Outcome.from_error(GuestExit(0))
    assert (outcome.status, outcome.exit_code, outcome.ok, outcome.unwrap()) == ("exited", 0, True, None)


@given(st.integers(1, 2**32 - 1))
def test_an_exit_with_another_code_never_looks_like_success(code: int) -> None:
    outcome = Outcome.from_error(GuestExit(code))
    assert not outcome.ok
    assert outcome.exit_code == (code & 0xFF or 1)


@pytest.mark.parametrize("code", [0, -9, 256])
def test_a_failure_cannot_claim_an_exit_code_that_hides_it(code: int) -> None:
    trap = GuestTrap("unreachable", code="unreachable")
    assert Outcome(status="trap", exit_code=code, error=trap).exit_code == 134
    assert Outcome(status="trap", exit_code=7, error=trap).exit_code == 7


def test_an_outcome_that_contradicts_itself_cannot_exist() -> None:
    with pytest.raises(ValueError, match="needs an error"):
        Outcome(status="trap")
    with pytest.raises(ValueError, match="needs an error"):
        Outcome(exit_code=1)
    with pytest.raises(ValueError, match="'trap', the kind of its error"):
        Outcome(error=GuestTrap("t", code="t"))


def test_guest_time_excludes_host_calls() -> None:
    assert Usage(seconds=2.0, host_seconds=0.5).guest_seconds == 1.5
    assert Usage(seconds=0.1, host_seconds=0.5).guest_seconds == 0.0
    assert Usage(seconds=2.0).guest_seconds is None


TRAP = Outcome.from_error(GuestTrap("the guest trapped: an unreachable instruction", code="unreachable"))
FUEL = Outcome.from_error(OutOfFuel("out of fuel", limit="fuel"))
CONNECT = Decision("network", "connect to", "tcp://10.0.0.5:80", False, "nothing allows it", "--allow-net ...")
WRITE = Decision("filesystem", "write", "/etc/passwd", False, "read-only /")


def test_an_outcome_has_a_predicate_for_each_kind_of_ending() -> None:
    assert Outcome(value=5).returned()
    assert Outcome(value=5).returned(5)
    assert Outcome(value=Err("no")).returned(Err("no"))
    assert Outcome().returned(None)
    assert not Outcome(value=5).returned(None)
    assert not TRAP.returned()
    assert Outcome(status="exited").exited(0)
    assert Outcome.from_error(GuestExit(3)).exited()
    assert Outcome.from_error(GuestExit(3)).exited(3)
    assert not Outcome.from_error(GuestExit(3)).exited(0)
    assert not Outcome().exited()
    assert TRAP.trapped()
    assert TRAP.trapped("unreachable")
    assert not TRAP.trapped("stack-overflow")
    assert not FUEL.trapped()
    assert FUEL.exceeded()
    assert FUEL.exceeded("fuel")
    assert not FUEL.exceeded("memory")
    assert not TRAP.exceeded()
    calls = Outcome.from_error(OutOfFuel("so many", limit="host_calls"))
    assert calls.exceeded("host-calls")


def test_a_denial_is_queried_by_a_capability_or_a_unique_prefix() -> None:
    outcome = Outcome(denials=(CONNECT, WRITE))
    assert outcome.denied()
    assert outcome.denied("net")
    assert outcome.denied("network", "10.0.0.5")
    assert not outcome.denied("network", "10.0.0.6")
    assert outcome.denied("file", "/etc")
    assert not outcome.denied("random")
    assert not Outcome().denied()
    with pytest.raises(ValueError, match="'c' matches several capabilities: use one of clock, config"):
        outcome.denied("c")
    with pytest.raises(ValueError, match="'sockets' is not a capability: use one of clock, "):
        outcome.denied("sockets")
    fatal = Outcome.from_error(CapabilityDenied("no", capability="kv-store", target="secrets", remedy=""))
    assert fatal.denied("kv", "secrets")
    assert not fatal.denied("net")


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Outcome(value=5).returned(5), "returned 5"),
        (Outcome(value=6).returned(5), "not returned 5: it returned 6"),
        (TRAP.returned(),
         "not returned: it ended with trap: the guest trapped: an unreachable instruction (unreachable)"),
        (Outcome(value=5).trapped("unreachable"), "not trapped with unreachable: it returned 5"),
        (Outcome(status="exited").trapped(), "not trapped: it exited with 0"),
        (FUEL.exceeded("memory"), "not exceeded memory: it ended with out-of-fuel: out of fuel"),
        (FUEL.exited(3), "not exited with 3: it ended with out-of-fuel: out of fuel"),
        (TRAP.exceeded(), "not exceeded a limit: it ended with trap: the guest trapped: an unreachable instruction "
                          "(unreachable)"),
        (FUEL.exited(), "not exited: it ended with out-of-fuel: out of fuel"),
        (Outcome(denials=(WRITE,)).denied("net"),
         "not denied network: it returned None; denied: filesystem write /etc/passwd"),
        (Outcome(denials=(WRITE,)).denied("fi", "pass"), "denied filesystem pass"),
        (Outcome(value="\x1b[31m" * 999).trapped(), None),
    ],
)  # fmt: skip
def test_a_negative_answer_names_the_actual_ending(verdict: object, text: str | None) -> None:
    assert text is None or repr(verdict) == text
    assert "\x1b" not in repr(verdict)
    assert len(repr(verdict)) < 400
