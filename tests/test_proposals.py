"""Proposals: with one enabled a module runs, and without it the same module is rejected by the proposal's name.

Exceptions are enabled only for isolated guests; their heap counts as memory; one that no handler catches is a trap.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, Policy
from aegis.engine.compile.config import ADMITTED, OPTIONAL, REFUSED, EngineConfig
from aegis.engine.native.advisories import engine_facts
from aegis.errors import ArtifactError, GuestTrap, LinkError, MemoryExceeded, PolicyError
from aegis.limits import Limits
from aegis.policy import load_policy, parse_policy
from aegis.sandbox.artifacts import validate_artifact
from aegis.support import proposals
from aegis.support.proposals import ISOLATED_ONLY, OFF, ON, PROPOSALS, checked_proposals
from tests.cli.command import aegis as command
from tests.isolation.isolated import only_where_there_are_workers

_OPTIONAL = [row.name for row in PROPOSALS if row.state == proposals.OPTIONAL]
_HANDLED = """(func (export "f") (result i32)
    (block $h (result i32) (try_table (catch $t $h) (throw $t (i32.const 7))) (i32.const 0)))"""
GUESTS = {
    "exceptions": (f"(module (tag $t (param i32)) {_HANDLED})", 7),
    "relaxed-simd": (
        """(module (func (export "f") (result i32) (i32x4.extract_lane 1
            (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 1 2 3 4)))))""", 2,
    ),
    "wide-arithmetic": (
        """(module (func (export "f") (result i64 i64)
            (i64.mul_wide_u (i64.const -1) (i64.const 3))))""", (-3, 2),
    ),
}  # fmt: skip
"""A module for each proposal that can be enabled, and the result of its function ``f``."""
DECLARED = {
    "an imported tag": '(module (import "m" "t" (tag)))',
    "an exported tag": '(module (tag (export "t")))',
    "a type": "(module (type (func (param exnref))))",
    "a table": "(module (table 1 exnref))",
    "a global": "(module (global exnref (ref.null exn)))",
    "a local": "(module (func (local exnref)))",
    "a block": "(module (tag) (func (block (result exnref) (unreachable)) drop))",
    "a block without a tag": "(module (func (block (result exnref) (unreachable)) drop))",
    "a null": "(module (func (drop (ref.null exn))))",
    "a null of the bottom type": "(module (func (drop (ref.null noexn))))",
    "a selection": "(module (func (drop (select (result exnref) (unreachable) (unreachable) (unreachable)))))",
    "throw": "(module (tag) (func (throw 0)))",
    "throw_ref": "(module (func (throw_ref (unreachable))))",
    "a nested module": "(component (core module (tag)))",
}


def _module(name: str) -> Any:
    return pytest.param(name, marks=only_where_there_are_workers if name in ISOLATED_ONLY else ())


# -- pairs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", _OPTIONAL)
def test_without_the_proposal_the_module_is_rejected_with_the_option_that_enables_it(name: str) -> None:
    flag = f"--enable {name}" + (" --isolate" if name in ISOLATED_ONLY else "")
    with pytest.raises(ArtifactError, match=f"it needs {name}: enable it with {flag}$"):
        Aegis(cache=False).load_wat(GUESTS[name][0])
    with pytest.raises(ArtifactError, match=f"it needs {name}: enable it with {flag}$"):
        Aegis(cache=False).load_wat(f"(component (core module {GUESTS[name][0].removeprefix('(module')})")


@pytest.mark.parametrize("name", sorted(set(_OPTIONAL) - ISOLATED_ONLY))
@pytest.mark.parametrize("pooled", [True, False])
def test_with_the_proposal_it_runs_in_this_process(name: str, pooled: bool) -> None:
    text, result = GUESTS[name]
    runtime = Aegis(cache=False, pooled=pooled, proposals=[name])
    with runtime.sandbox(runtime.load_wat(text)) as sandbox:
        assert sandbox.call("f") == result


@only_where_there_are_workers
@pytest.mark.parametrize("name", _OPTIONAL)
def test_with_the_proposal_it_runs_isolated_and_without_it_is_rejected_there_too(name: str) -> None:
    text, result = GUESTS[name]
    runtime = Aegis(cache=False, isolation=True, proposals=[name])
    with runtime, runtime.sandbox(runtime.load_wat(text)) as sandbox:
        assert sandbox.call("f") == result
    with Aegis(cache=False, isolation=True) as runtime, pytest.raises(ArtifactError, match=f"it needs {name}: "):
        runtime.load_wat(text)


@pytest.mark.parametrize("text", DECLARED.values(), ids=DECLARED.keys())
def test_every_use_of_exceptions_is_named(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"exceptions|externref"):
        Aegis(cache=False).load_wat(text)


@pytest.mark.parametrize("text", DECLARED.values(), ids=DECLARED.keys())
def test_every_use_of_exceptions_is_valid_with_the_proposal(text: str) -> None:
    from aegis.engine.compile.artifact import text_to_binary

    validate_artifact(
        text_to_binary(text), Limits(), EngineConfig.from_limits(Limits(), proposals=("exceptions",))
    )  # fmt: skip


def test_the_older_form_of_exceptions_is_named_and_cannot_be_enabled() -> None:
    text = "(module (tag) (func try catch_all end))"
    with pytest.raises(ArtifactError, match="it needs exceptions"):  # the tag comes first
        Aegis(cache=False).load_wat(text)
    with pytest.raises(PolicyError, match="legacy-exceptions cannot be enabled: "):
        checked_proposals(["legacy-exceptions"])


def test_compiled_code_is_not_shared_with_runtimes_without_the_proposal(tmp_path: Path) -> None:
    text, result = GUESTS["wide-arithmetic"]
    component = f"(component (core module {text.removeprefix('(module')})"
    for _ in range(2):
        runtime = Aegis(cache=tmp_path, proposals=["wide-arithmetic"])
        runtime.load_wat(component)
        with runtime.sandbox(runtime.load_wat(text)) as sandbox:
            assert sandbox.call("f") == result
        for wat in (text, component):
            with pytest.raises(ArtifactError, match="it needs wide-arithmetic"):
                Aegis(cache=tmp_path).load_wat(wat)


def test_configurations_with_different_proposals_have_different_fingerprints() -> None:
    plain = EngineConfig(stack=1 << 19)
    kinds = [plain, *(replace(plain, proposals=(name,)) for name in _OPTIONAL)]
    assert len({kind.fingerprint() for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.for_workers().proposals == kind.with_count().proposals == kind.proposals


# -- isolated only ---------------------------------------------------------------------------------


def test_exceptions_in_this_process_are_refused_with_the_remedy() -> None:
    with pytest.raises(PolicyError, match=r"exceptions is only for isolated guests, .*: run with --isolate"):
        Aegis(cache=False, proposals=["exceptions"])
    with pytest.raises(PolicyError, match="only for isolated guests"):
        Aegis.builder().with_proposals("exceptions").build()


@only_where_there_are_workers
def test_a_sandbox_of_an_isolated_runtime_cannot_leave_isolation_with_exceptions() -> None:
    with Aegis(cache=False, isolation=True, proposals=["exceptions"]) as runtime:
        module = runtime.load_wat(GUESTS["exceptions"][0])
        with pytest.raises(PolicyError, match="only for isolated guests"):
            runtime.sandbox(module, isolate=False)
    with Aegis(cache=False, isolation=True, proposals=["relaxed-simd"]) as runtime:
        module = runtime.load_wat(GUESTS["relaxed-simd"][0])
        with runtime.sandbox(module, isolate=False) as sandbox:
            assert sandbox.call("f") == 2


@only_where_there_are_workers
def test_strict_isolation_rejects_exceptions_while_a_defect_is_reachable() -> None:
    if not engine_facts(["exceptions"]).reachable:
        pytest.skip("the installed engine has every fix")
    with pytest.raises(PolicyError, match="strict rejects"):
        Aegis(cache=False, isolation="strict", proposals=["exceptions"])


# -- exceptions ------------------------------------------------------------------------------------

THROWERS = """(module
    (import "env" "back" (func $back))
    (tag $a (export "oops") (param i32)) (tag $b) (table $kept 60000 exnref) (memory (export "memory") 1)
    (func (export "named") (throw $a (i32.const 1)))
    (func (export "unnamed") (throw $b))
    (func (export "again") (block $h (result exnref) (try_table (catch_all_ref $h) (throw $b)) unreachable) throw_ref)
    (func (export "through") (result i32)
        (block $h (try_table (catch_all $h) (call $back)) (return (i32.const 1))) (i32.const 2))
    (func (export "keep") (param $n i32) (result i32) (local $i i32)
        (loop $l
            (i32.rem_u (local.get $i) (i32.const 60000))
            (block $h (result exnref) (try_table (catch_all_ref $h) (throw $a (i32.const 1))) unreachable)
            (table.set $kept)
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
        (local.get $i))
    (func (export "drop") (param $n i32) (result i32) (local $i i32)
        (loop $l
            (block $h (try_table (catch_all $h) (throw $b)) unreachable)
            (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
        (local.get $i)))"""


def _called(function: str, *args: int, **limits: Any) -> tuple[Any, int]:
    """Call a function of ``THROWERS``, whose host function calls back into it; return the result and peak memory."""
    with Aegis(cache=False, isolation=True, proposals=["exceptions"], table_elements=60000, **limits) as runtime:
        held: list[Any] = []
        imports = {"env": {"back": lambda: held[0].call("named")}}
        with runtime.sandbox(runtime.load_wat(THROWERS), imports=imports) as sandbox:
            held.append(sandbox)
            return sandbox.call(function, *args), sandbox.usage.peak_memory


@only_where_there_are_workers
@pytest.mark.parametrize("function", ["named", "unnamed", "again"])
def test_an_exception_that_no_handler_catches_is_a_trap(function: str) -> None:
    with pytest.raises(GuestTrap, match=r"an exception .*that no handler caught in function") as raised:
        _called(function)
    assert raised.value.code == "uncaught-exception"
    assert ("with the tag 'oops'" in str(raised.value)) == (function == "named")
    assert raised.value.frames


STARTS = {
    "a start function": '(module (tag $t (export "oops")) (func $s (throw $t)) (start $s))',
    "columns": '(module (tag $t (export "oops")) (func (export "f") (param i32) (result i32) (throw $t)))',
    "realloc": """(component (core module $m (tag $t) (memory (export "memory") 1) (func (export "f") (param i32 i32))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (throw $t)))
        (core instance $i (instantiate $m))
        (func (export "f") (param "s" string) (canon lift (core func $i "f") (memory (core memory $i "memory"))
            (realloc (core func $i "realloc")))))""",
}
"""Places beside an ordinary call where a guest may throw."""


@only_where_there_are_workers
@pytest.mark.parametrize("place", STARTS)
def test_an_exception_is_a_trap_wherever_the_host_enters_the_guest(place: str) -> None:
    runtime = Aegis(cache=False, isolation=True, proposals=["exceptions"])
    with runtime, pytest.raises(GuestTrap) as raised, runtime.sandbox(runtime.load_wat(STARTS[place])) as sandbox:
        sandbox.call_many("f", [array("i", [1, 2])]) if place == "columns" else sandbox.call("f", "text")
    assert raised.value.code == "uncaught-exception"


FULL = """(module (tag $t) (table $kept 50000 exnref) (func $s (local $i i32)
    (loop $l
        (local.get $i)
        (block $h (result exnref) (try_table (catch_all_ref $h) (throw $t)) unreachable)
        (table.set $kept)
        (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50000)))))
    (start $s))"""


@only_where_there_are_workers
def test_a_start_function_that_fills_the_heap_of_exceptions_exceeds_the_memory_limit() -> None:
    runtime = Aegis(cache=False, isolation=True, proposals=["exceptions"], memory="256KiB", table_elements=50000)
    with runtime, pytest.raises(MemoryExceeded, match="with the heap of exceptions"):
        runtime.sandbox(runtime.load_wat(FULL))


@only_where_there_are_workers
def test_an_exception_does_not_pass_through_a_host_function() -> None:
    """Oracle: the guest's handler would return 2."""
    with pytest.raises(GuestTrap) as raised:
        _called("through")
    assert raised.value.code == "uncaught-exception"


@only_where_there_are_workers
def test_exceptions_count_as_memory() -> None:
    result, peak = _called("keep", 60000, memory="16MiB")
    assert result == 60000
    assert 60000 * 16 < peak <= 16 << 20
    with pytest.raises(MemoryExceeded, match="with the heap of exceptions") as raised:
        _called("keep", 60000, memory="1MiB")
    assert raised.value.limit == "memory"
    assert raised.value.used <= 1 << 20


@only_where_there_are_workers
def test_the_heap_of_exceptions_counts_together_with_the_memories() -> None:
    text = GUESTS["exceptions"][0].replace("(tag", "(memory 1) (tag", 1)
    for memory, runs in ((2 * 65536, True), (65536, False)):
        with Aegis(cache=False, isolation=True, proposals=["exceptions"], memory=memory, memories=1) as runtime:
            module = runtime.load_wat(text)
            with runtime.sandbox(module) as sandbox:
                if runs:
                    assert (sandbox.call("f"), sandbox.usage.peak_memory) == (7, memory)
                else:
                    with pytest.raises(MemoryExceeded):
                        sandbox.call("f")


@only_where_there_are_workers
def test_exceptions_without_a_reference_are_collected() -> None:
    result, peak = _called("drop", 300_000, memory="1MiB")
    assert result == 300_000
    assert peak <= 1 << 20


@only_where_there_are_workers
def test_a_loop_of_exceptions_ends_at_the_deadline_and_by_fuel() -> None:
    from aegis.errors import DeadlineExceeded, OutOfFuel

    with pytest.raises(DeadlineExceeded):
        _called("drop", -1, timeout="200ms")
    with pytest.raises(OutOfFuel):
        _called("drop", -1, fuel=100_000)


@only_where_there_are_workers
def test_a_tag_that_the_host_does_not_have_is_a_missing_import() -> None:
    with Aegis(cache=False, isolation=True, proposals=["exceptions"]) as runtime:
        module = runtime.load_wat(DECLARED["an imported tag"])
        with pytest.raises(LinkError):
            runtime.sandbox(module)


_THROWER = '(core module $m (tag $t (export "t")) (func (export "f") (throw $t)))'
_CATCHER = """(func (export "run") (result i32)
    (block $h (try_table (catch_all $h) (call $f)) (return (i32.const 1))) (i32.const 2))"""
BETWEEN = {
    "one component": f"""(component {_THROWER}
        (core module $n (import "a" "f" (func $f)) {_CATCHER})
        (core instance $a (instantiate $m)) (core instance $b (instantiate $n (with "a" (instance $a))))
        (func (export "run") (result u32) (canon lift (core func $b "run"))))""",
    "two components": f"""(component
        (component $A {_THROWER} (core instance $i (instantiate $m))
            (func (export "f") (canon lift (core func $i "f"))))
        (component $B (import "f" (func $f)) (core func $g (canon lower (func $f)))
            (core module $n (import "a" "f" (func $f)) {_CATCHER})
            (core instance $i (instantiate $n (with "a" (instance (export "f" (func $g))))))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))
        (instance $a (instantiate $A)) (instance $b (instantiate $B (with "f" (func $a "f"))))
        (export "run" (func $b "run")))""",
}


@only_where_there_are_workers
@pytest.mark.parametrize("kind", BETWEEN)
def test_an_exception_passes_between_core_modules_but_not_between_components(kind: str) -> None:
    """Oracle: the handler of the caller returns 2; the component model makes an exception at its boundary a trap."""
    runtime = Aegis(cache=False, isolation=True, proposals=["exceptions"])
    with runtime, runtime.sandbox(runtime.load_wat(BETWEEN[kind])) as sandbox:
        if kind == "one component":
            assert sandbox.call("run") == 2
            return
        with pytest.raises(GuestTrap) as raised:
            sandbox.call("run")
        assert raised.value.code == "uncaught-exception"


# -- the table and the policy ----------------------------------------------------------------------


def test_the_table_and_the_settings_of_the_engine_agree() -> None:
    states = {row.name: row.state for row in PROPOSALS}
    assert len(states) == len(PROPOSALS)
    assert set(OPTIONAL) == {name for name, state in states.items() if state == proposals.OPTIONAL}
    for setting in ADMITTED:
        assert states[setting.replace("_", "-")] == ON
    implemented = {"component_model_async"}  # by Aegis: the engine runs no such component
    for setting in implemented:
        assert states[setting.replace("_", "-")] == ON
    for setting in set(REFUSED) - implemented:
        assert states[setting.replace("_", "-")] in (OFF, proposals.OPTIONAL)
    assert {setting for settings in OPTIONAL.values() for setting in settings} <= set(REFUSED)


def test_names_are_checked_and_those_that_are_always_on_are_accepted() -> None:
    assert checked_proposals(["simd", "relaxed_simd", "exceptions", "exceptions"]) == ("exceptions", "relaxed-simd")
    with pytest.raises(PolicyError, match="'exeptions' is not a WebAssembly proposal: did you mean 'exceptions'"):
        checked_proposals(["exeptions"])
    with pytest.raises(PolicyError, match="threads cannot be enabled: a shared memory escapes the memory limit"):
        Policy(proposals=("threads",))
    for wrong in ("exceptions", 3, [3], None):
        with pytest.raises(PolicyError, match="proposals: "):
            checked_proposals(wrong)


def test_a_file_enables_proposals_and_names_the_line_of_a_mistake(tmp_path: Path) -> None:
    assert parse_policy('[engine]\nproposals = ["exceptions"]').proposals == ("exceptions",)
    for text in ('[engine]\n\nproposals = ["gc"]', '[engine]\n\nproposals = ["x"]', "[engine]\n\nproposals = 3"):
        path = tmp_path / "aegis.toml"
        path.write_text(text)
        with pytest.raises(PolicyError) as raised:
            load_policy(path)
        assert raised.value.line == 3


def test_policies_add_their_proposals() -> None:
    base, more = Policy(proposals=("exceptions",)), Policy(proposals=("relaxed-simd",))
    assert base.merged(more).proposals == more.merged(base).proposals == ("exceptions", "relaxed-simd")
    assert base.merged(Policy()).proposals == Policy().merged(base).proposals == ("exceptions",)
    assert Aegis.builder().with_proposals("wide-arithmetic").with_proposals("relaxed-simd")._policy.proposals == (
        "relaxed-simd", "wide-arithmetic",
    )  # fmt: skip


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def wat(tmp_path: Path) -> Any:
    """Return a function that writes the guest of a proposal to a file."""

    def write(name: str) -> str:
        path = tmp_path / f"{name}.wat"
        path.write_text(GUESTS[name][0])
        return str(path)

    return write


@pytest.mark.parametrize("name", _OPTIONAL)
@pytest.mark.parametrize("verb", ["validate", "inspect"])
def test_a_command_that_runs_nothing_takes_the_option_alone(verb: str, name: str, wat: Any) -> None:
    assert command(verb, "--enable", name, wat(name)).code == 0
    refused = command(verb, wat(name))
    assert refused.code == 126
    assert f"--enable {name}" in refused.err


@only_where_there_are_workers
def test_run_takes_the_option_and_the_report_names_what_was_on(wat: Any, tmp_path: Path) -> None:
    words = ("-e", "f", wat("exceptions"))
    assert command("run", "--enable", "exceptions", *words).code == 125
    events = tmp_path / "events"
    ended = command("-f", "json", "run", "--isolate", "--enable=exceptions", "--events", str(events), *words)
    assert (ended.document["value"], ended.document["proposals"]) == (7, ["exceptions"])
    assert '"proposals":"exceptions"' in events.read_text().replace(" ", "")
    assert command("-f", "json", "run", "--isolate", *words).document["proposals"] == []
    shown = command("run", "--metrics", "--isolate", "--enable", "exceptions", "--enable", "relaxed-simd", *words)
    assert "enabled   exceptions, relaxed-simd" in shown.err
    config = tmp_path / "aegis.toml"
    config.write_text('[engine]\nproposals = ["exceptions"]\n[isolation]\n')
    assert command("run", "-c", str(config), *words).out == "7\n"


def test_doctor_shows_the_table_and_the_advisories_that_a_proposal_makes_reachable() -> None:
    shown = command("doctor").out
    rows = {row["name"]: row for row in command("-f", "json", "doctor").document["proposals"]}
    assert list(rows) == [row.name for row in PROPOSALS]
    for row in PROPOSALS:
        assert row.name in shown
        reachable = engine_facts([row.name]).reachable if row.state == proposals.OPTIONAL else ()
        assert rows[row.name] == {**row.to_dict(), "advisories": [finding.advisory.id for finding in reachable]}
