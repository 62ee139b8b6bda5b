from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis import errors
from aegis.errors import AegisError, GuestExit, GuestTrap
from aegis.observe import Outcome, Usage

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, AegisError)]


def bare(kind: type[AegisError]) -> AegisError:
    """Return an instance without the arguments that each class asks for."""
    if issubclass(kind, errors.ArtifactNotFound):
        return kind("no such file")  # an OSError makes itself
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


def test_guest_time_is_what_host_calls_leave() -> None:
    assert Usage(seconds=2.0, host_seconds=0.5).guest_seconds == 1.5
    assert Usage(seconds=0.1, host_seconds=0.5).guest_seconds == 0.0
    assert Usage(seconds=2.0).guest_seconds is None
