"""Components in text: every kind of value in WAVE, in both directions, and the documented end of each hostile one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from aegis import Aegis, AegisError, Err, Outcome, SandboxStateError, StdioCapability
from aegis.cli.invocation import Invocation
from tests.guests.catalogue import GUESTS, source

RUNTIME = Aegis(cache=False, pooled=False, timeout="20s")
FUELLED = Aegis(cache=False, pooled=False, timeout="20s", fuel=100_000_000)
VALUES = source("components/values")
LIE = re.compile(r'\(func \(export "([a-z0-9-]+)"\) \(result \S+\) \(canon')
LIES = LIE.findall(source("hostile/component-lies").read_text())


def run(name: str, function: str, *args: Any, runtime: Aegis = RUNTIME, **grants: Any) -> Outcome:
    """Run a hostile component and return its outcome, including loading and instantiation."""
    try:
        component = runtime.load_file(source(f"hostile/{name}"))
        with runtime.sandbox(component, **grants) as sandbox:
            return sandbox.run(function, *args)
    except AegisError as error:
        return Outcome.from_error(error)


# -- values ------------------------------------------------------------------------------------------


CALLS = [
    "of-bool(true)", "of-s8(-128)", "of-u8(255)", "of-s16(-32768)", "of-u16(65535)", "of-s32(-2147483648)",
    "of-u32(4294967295)", "of-s64(-9223372036854775808)", "of-u64(18446744073709551615)", "of-f32(0.1)", "of-f32(nan)",
    "of-f64(-inf)", "of-f64(-0)", "of-char('\\u{10ffff}')", "of-char('é')", 'of-string("")', 'of-string("a\\"b\\n😀")',
    "of-bytes([0, 255])", 'of-list(["", "two words"])', "of-list([])", "of-tuple((7, 'x'))", "of-record({x: -1, y: 2})",
    "of-variant(dot)", "of-variant(circle(3))", "of-variant(tinted(%none))", "of-enum(hearts)", "of-enum(%none)",
    "of-flags({})", "of-flags({read, execute})", "of-option(none)", "of-option(some(-5))", "of-result(ok(9))",
    "of-result(err(clubs))", "of-options(none)", "of-options(some(none))", "of-options(some(some(1)))",
    "of-results(ok(none))", "of-results(ok(some(2)))", "of-results(err(3))",
]  # fmt: skip


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("call", CALLS)
def test_a_value_comes_back_as_it_was_written(call: str) -> None:
    component = RUNTIME.load_file(VALUES)
    invocation = Invocation.of(component, call, "", ())
    with RUNTIME.sandbox(component) as sandbox:
        try:
            value = sandbox.call(invocation.target, *invocation.arguments)
        except Err as error:
            value = error
    assert f"{call.partition('(')[0]}({invocation.shown(value)})" == call


def test_every_export_of_values_is_called_here() -> None:
    exports = set(re.findall(r'export "(of-[a-z0-9-]+)"', VALUES.read_text()))
    assert {call.partition("(")[0] for call in CALLS} == exports


# -- attacks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", LIES)
def test_a_lie_is_a_trap(function: str) -> None:
    outcome = run("component-lies", function)
    assert (outcome.status, outcome.exit_code, outcome.value) == ("trap", 134, None)


def test_every_case_of_the_canonical_abi_guest_is_tested() -> None:
    assert len(LIES) == 14


ENDINGS: list[tuple[str, str, tuple[Any, ...], str, int]] = [
    ("component-realloc", "outside", ("x" * 100,), "trap", 134),
    ("component-realloc", "wraps-around", ("x" * 100,), "trap", 134),
    ("component-realloc", "misaligned", ([1, 2],), "trap", 134),
    ("component-realloc", "traps", ("x",), "trap", 134),
    ("component-realloc", "spins", ("x",), "out-of-fuel", 152),
    ("component-handles", "forged", (), "trap", 134),
    ("component-handles", "dropped", (), "trap", 134),
    ("component-handles", "dropped-twice", (), "trap", 134),
    ("component-handles", "foreign", (), "trap", 134),
    ("component-handles", "flood", (), "quota-exceeded", 153),
    ("component-poll", "poll", (3,), "returned", 0),
    ("component-poll", "poll", (5000,), "quota-exceeded", 153),
    ("component-poll", "flood", (), "quota-exceeded", 153),
    ("component-read", "read", (), "returned", 0),
    ("component-bomb", "any", (), "memory-exceeded", 137),
    ("component-deep", "any", (), "refused", 126),
    ("component-types", "any", (), "refused", 126),
    ("component-types/component-types-named", "any", (), "usage", 2),
    ("component-types/component-types-named", "other#g", (), "usage", 2),
    ("component-start", "any", (), "trap", 134),
    ("component-start/component-start-spin", "any", (), "out-of-fuel", 152),
    ("component-results", "bytes", (), "returned", 0),
    ("component-results", "repeated", (), "quota-exceeded", 153),
]


@pytest.mark.parametrize(
    ("name", "function", "args", "status", "code"), ENDINGS, ids=[f"{e[0]}-{e[1]}-{n}" for n, e in enumerate(ENDINGS)]
)
def test_each_attack_ends_as_documented(
    name: str, function: str, args: tuple[Any, ...], status: str, code: int
) -> None:
    outcome = run(name, function, *args, runtime=FUELLED)
    assert (outcome.status, outcome.exit_code) == (status, code), outcome.error


def test_a_poll_of_a_million_ends_at_a_limit() -> None:
    assert run("component-poll", "poll", 1_000_000).status in ("quota-exceeded", "trap")


def test_a_read_of_everything_gives_a_chunk() -> None:
    granted = StdioCapability(stdin=bytes(200_000))
    assert run("component-read", "read", stdio=granted).value == 65536
    assert run("component-read", "read").value == -1


def test_many_empty_strings_count_by_their_cost() -> None:
    few = Aegis(cache=False, pooled=False, value_bytes="1MiB")
    assert run("component-results", "empties", runtime=few).status == "quota-exceeded"


def test_a_second_entry_is_refused_and_the_first_goes_on() -> None:
    reported: list[str] = []
    component = RUNTIME.load_file(source("hostile/component-reentrant"))

    def again() -> None:
        with pytest.raises(SandboxStateError, match="cannot be entered while a call into it is under way") as caught:
            sandbox.call("go")
        reported.append(str(caught.value))

    with RUNTIME.sandbox(component, imports={"again": again}) as sandbox:
        sandbox.call("go")
        sandbox.call("go")
    assert len(reported) == 2


def test_each_attack_has_a_readme_that_is_listed() -> None:
    listed = (GUESTS / "hostile" / "README.md").read_text()
    folders = sorted((GUESTS / "hostile").glob("component-*/"))
    assert len(folders) == 11
    for folder in folders:
        assert "**Ends**" in (folder / "README.md").read_text()
        assert f"({folder.name})" in listed
