"""The result of a host function is coerced to its type where no trampoline does so: for a guest in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from aegis.engine.call.door import Door
from aegis.engine.call.trampoline import fit_result
from aegis.engine.threads import await_result
from aegis.errors import HostError
from aegis.limits import Limits
from aegis.values import FuncType, HostFunction


class Waited:
    """An awaitable, with the value of awaiting it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Iterator[None]:
        yield


@pytest.fixture(autouse=True)
def loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Awaiting requires a call that an event loop waits for; here the value is available at once."""
    direct = SimpleNamespace(await_on_loop=lambda door, name, awaitable: awaitable.value)
    monkeypatch.setattr(await_result, "event_loop", direct)


def _fit(results: tuple[str, ...], result: Any) -> Any:
    function = HostFunction("env", "f", type=FuncType((), results), call=lambda: None)
    return fit_result(function, result, Door(Limits()))


@pytest.mark.parametrize(
    ("results", "given", "value"),
    [((), None, None), (("i32",), 2**32 - 1, -1), (("f64",), 3, 3.0), (("i32", "i64"), (1, 2), [1, 2])],
)
def test_a_result_that_fits_is_coerced_to_the_type(results: tuple[str, ...], given: Any, value: Any) -> None:
    assert _fit(results, given) == value


@pytest.mark.parametrize(
    ("results", "given", "reported"),
    [
        ((), 3, "returned int, but the import has no result: return None"),
        (("i32", "i64"), 5, "returned int, but the import has 2 results: return a tuple of 2 values"),
        (("i32", "i64"), (1,), "returned a tuple of 1, but the import has 2 results: return a tuple of 2 values"),
        (("i32", "i64"), [1, 2], "returned list, but the import has 2 results: return a tuple of 2 values"),
        (("i32",), "x", "returned an invalid result"),
        (("i32",), 2**32, "returned an invalid result"),
        (("i32", "i32"), (1,), "env.f"),
        (("i32", "i32"), 7, "env.f"),
    ],
)
def test_a_result_that_does_not_fit_is_the_hosts_error(results: tuple[str, ...], given: Any, reported: str) -> None:
    with pytest.raises(HostError, match=reported):
        _fit(results, given)


def test_an_awaited_result_is_checked_by_its_final_value() -> None:
    assert _fit((), Waited(None)) is None
    assert _fit(("i32",), Waited(7)) == 7
    with pytest.raises(HostError, match="has no result"):
        _fit((), Waited(5))
