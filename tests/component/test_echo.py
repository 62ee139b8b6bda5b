"""For every WIT type, a guest that echoes returns its argument unchanged, through an import and an export."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, Bound, Err, Ok, Some
from aegis.wit.naming import snake
from aegis.wit.types import Enum, Flags, Function, Interface, List, Option, Record, Result, Tuple, Variant, WitType
from tests.echo import echo_component, own_echo_component
from tests.wit.strategies import same, typed_values

RUNTIME = Aegis(cache=False, pooled=False)
SETTINGS = settings(max_examples=60)


def echoed(of: WitType, value: Any, *, bound: bool) -> tuple[list[Any], Any]:
    """Return the value that the host received for ``value``, and the value that the guest returned.

    With ``bound``, the classes in ``of`` are used, as by generated bindings; otherwise the component makes its own.
    """
    seen: list[Any] = []

    def echo(given: Any) -> Any:
        seen.append(given)
        return given

    function = Function((("x", of),), of)
    provider = Bound(Interface("", {"echo": function}), echo) if bound else echo
    component = RUNTIME.load_wat(echo_component(of))
    with RUNTIME.sandbox(component, imports={"echo": provider}) as sandbox:
        call = sandbox.exports["echo-back"]
        if bound:
            call = sandbox.bind(Interface("", {"echo-back": function})).echo_back
        try:
            returned = call(value)
            return seen, Ok(returned) if isinstance(of, Result) else returned
        except Err as declared:
            return seen, declared


@SETTINGS
@given(typed_values())
def test_arguments_come_back_unchanged(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    seen, returned = echoed(of, value, bound=True)
    assert len(seen) == 1
    assert same(seen[0], value)
    assert same(returned, value)


@SETTINGS
@given(typed_values())
def test_a_guest_that_echoes_by_itself_gives_it_back(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    component = RUNTIME.load_wat(own_echo_component(of))
    with RUNTIME.sandbox(component) as sandbox:
        call = sandbox.bind(Interface("", {"echo-back": Function((("x", of),), of)})).echo_back
        for _ in range(2):
            try:
                returned = call(value)
                returned = Ok(returned) if isinstance(of, Result) else returned
            except Err as declared:
                returned = declared
            assert same(returned, value)


@SETTINGS
@given(typed_values())
def test_the_dynamic_way_agrees_with_the_generated_one(pair: tuple[WitType, Any]) -> None:
    of, value = pair
    component = RUNTIME.load_wat(echo_component(of))
    own = component.with_python_types(component.exports["echo-back"]).result  # type: ignore[union-attr, arg-type]
    assert own is not None
    seen, returned = echoed(of, plain(of, value), bound=False)
    assert same(plain(own, returned), plain(of, value))
    assert same(plain(own, seen[0]), plain(of, value))


def plain(of: WitType, value: Any) -> Any:
    """Return a value as an embedder without classes would write it."""
    match of:
        case List(element) if element != "u8":
            return [plain(element, item) for item in value]
        case Tuple(elements):
            return tuple(plain(t, item) for t, item in zip(elements, value, strict=True))
        case Option(element) if value is not None:
            return Some(plain(element, value.value)) if isinstance(value, Some) else plain(element, value)
        case Result(ok, err):
            inner = ok if isinstance(value, Ok) else err
            return type(value)(None if inner is None else plain(inner, value.value))
        case Record():
            return {name: plain(t, getattr(value, snake(name))) for name, t in of.fields}
        case Variant():
            n = [cls.__name__ for cls in of.python or ()].index(type(value).__name__)
            name, payload = of.cases[n]
            return name if payload is None else (name, plain(payload, value.value))
        case Enum():
            return value.value
        case Flags():
            return [name for n, name in enumerate(of.names) if value.value >> n & 1]
    return value


@SETTINGS
@given(st.binary(max_size=3000))
def test_bytes_come_back_whatever_they_are_given_as(octets: bytes) -> None:
    for given_as in (octets, bytearray(octets), memoryview(octets), list(octets)):
        assert echoed(List("u8"), given_as, bound=False)[1] == octets


def test_a_long_record_goes_through_memory() -> None:
    of = Record("wide", tuple((f"f{n}", "u64") for n in range(20)))
    seen, returned = echoed(of, {f"f{n}": n * 2**58 for n in range(20)}, bound=False)
    assert [getattr(returned, f"f{n}") for n in range(20)] == [n * 2**58 for n in range(20)]
    assert seen == [returned]
