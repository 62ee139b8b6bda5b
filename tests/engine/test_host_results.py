"""What a host function returns, made fit for its type where no trampoline does it: for a guest in a worker."""

from __future__ import annotations

from typing import Any

import pytest

from aegis.engine.trampoline import fit_result
from aegis.errors import HostError
from aegis.values import FuncType, HostFunction


class Waited:
    """Something to be awaited, and a door that has waited for it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def settled(self, result: Any, name: str) -> Any:
        return self.value if result is self else result


def _fit(results: tuple[str, ...], result: Any, door: Any = None) -> Any:
    function = HostFunction("env", "f", type=FuncType((), results), call=lambda: None)
    return fit_result(function, result, door or Waited(None))


@pytest.mark.parametrize(
    ("results", "given", "value"),
    [((), None, None), (("i32",), 2**32 - 1, -1), (("f64",), 3, 3.0), (("i32", "i64"), (1, 2), [1, 2])],
)
def test_a_result_that_fits_is_made_what_the_type_says(results: tuple[str, ...], given: Any, value: Any) -> None:
    assert _fit(results, given) == value


@pytest.mark.parametrize(
    ("results", "given", "told"),
    [
        ((), 3, "returned int, but the import has no result; return None"),
        (("i32",), "x", "broke its type"),
        (("i32",), 2**32, "broke its type"),
        (("i32", "i32"), (1,), "env.f"),
        (("i32", "i32"), 7, "env.f"),
    ],
)
def test_a_result_that_does_not_fit_is_the_hosts_error(results: tuple[str, ...], given: Any, told: str) -> None:
    with pytest.raises(HostError, match=told):
        _fit(results, given)


def test_an_awaited_result_is_judged_as_what_it_came_to() -> None:
    for value, told in ((None, None), (5, "has no result")):
        door = Waited(value)
        if told is None:
            assert _fit((), door, door) is None
        else:
            with pytest.raises(HostError, match=told):
                _fit((), door, door)
    door = Waited(7)
    assert _fit(("i32",), door, door) == 7
