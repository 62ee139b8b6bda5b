"""Published advisories for the installed engine are known, assessed for the configuration, and reported."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

import aegis
from aegis import Aegis
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.config import ADMITTED, REFUSED, EngineConfig
from aegis.engine.native import advisories
from aegis.engine.native.advisories import ADVISORIES, TABLE_DATE, Advisory, engine_facts
from aegis.engine.native.library import MAJOR, built_version, library_version
from aegis.errors import ArtifactError, PolicyError, QuotaExceeded
from aegis.limits import Limits
from aegis.sandbox.artifacts import validate_artifact
from tests.cli.command import aegis as command
from tests.guests.catalogue import source
from tests.isolation.isolated import PLACES, isolated, only_where_there_are_workers, runtime

PLANTED = Advisory(
    id="GHSA-test-test-test", title="a defect for tests", published="2026-01-01", fixed_in="51.0.0", needs=frozenset()
)


# -- the table -------------------------------------------------------------------------------------


def test_every_advisory_is_whole_and_of_the_supported_series() -> None:
    assert len({one.id for one in ADVISORIES}) == len(ADVISORIES)
    for one in ADVISORIES:
        assert re.fullmatch(r"GHSA(-[23456789cfghjmpqrvwx]{4}){3}", one.id), one
        assert date.fromisoformat(one.published) <= date.fromisoformat(TABLE_DATE)
        assert one.fixed_in.startswith(f"{MAJOR}.")
        assert one.needs
        assert one.needs <= advisories._NOT_USED.keys()


@pytest.mark.parametrize(
    ("version", "known"), [("50.0.0", 14), ("50.0.1", 9), ("50.0.2", 1), ("50.0.3", 0), ("50.0.10", 0), ("50.1.0", 0)]
)
def test_an_advisory_counts_until_the_version_that_fixes_it(version: str, known: int) -> None:
    assert len(engine_facts(version=version).findings) == known


def test_a_library_that_does_not_say_its_version_has_every_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisories, "built_version", lambda: None)
    facts = engine_facts()
    assert len(facts.findings) == len(ADVISORIES)
    assert "exact version unknown" in str(facts)


def test_the_librarys_own_version_is_found_besides_the_packages() -> None:
    """The versions differ: wasmtime-py 50.0.1 contains wasmtime 50.0.0."""
    built = built_version()
    assert built is not None
    assert re.fullmatch(rf"{MAJOR}\.\d+\.\d+", built)
    assert library_version().split(".")[0] == str(MAJOR)


# -- what can be reached ---------------------------------------------------------------------------


def test_a_guest_reaches_none_of_them_in_the_configuration_that_aegis_has() -> None:
    facts = engine_facts(version=f"{MAJOR}.0.0")
    assert [finding.advisory.id for finding in facts.reachable] == []
    assert all(finding.reason.startswith("no, because ") for finding in facts.findings)


@pytest.mark.parametrize(
    ("proposal", "reached"),
    [
        ("gc", {"GHSA-43j2-gcp4-m22g", "GHSA-3982-jqvv-277m"}),
        ("exceptions", {"GHSA-43j2-gcp4-m22g", "GHSA-3982-jqvv-277m"}),
        ("function_references", {"GHSA-43j2-gcp4-m22g", "GHSA-3982-jqvv-277m"}),
        ("component_model_async", {"GHSA-xrvr-8678-5wp8"}),
        ("memory64", set()),
        ("relaxed_simd", set()),
    ],
)
def test_a_proposal_that_is_switched_on_makes_its_advisories_reachable(proposal: str, reached: set[str]) -> None:
    facts = engine_facts((*ADMITTED, proposal), version=f"{MAJOR}.0.0")
    assert {finding.advisory.id for finding in facts.reachable} == reached
    assert all(finding.reason.startswith("yes, ") for finding in facts.reachable)


def test_on_windows_the_escape_by_a_drive_is_still_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    (finding,) = (f for f in engine_facts(version="50.0.2").findings)
    assert finding.advisory.id == "GHSA-f2pq-268w-886c"
    assert not finding.reachable


NEVER_CALLED = {
    "native-wasi": ("wasmtime_linker_define_wasi", "wasmtime_context_set_wasi", "wasi_config_", "add_wasip2"),
    "native-http": ("add_wasi_http",),
    "host-made-types": ("wasmtime_struct_type_new", "wasmtime_array_type_new"),
    "gc-heap-reservation": ("gc_heap_reservation",),
    "module-export-lookup": ("get_module_export",),
}


@pytest.mark.parametrize(("need", "functions"), NEVER_CALLED.items())
def test_options_documented_as_unused_are_named_nowhere(need: str, functions: tuple[str, ...]) -> None:
    assert need in advisories._NOT_USED
    for path in Path(aegis.__file__).parent.rglob("*.py"):
        if path.name != "advisories.py":
            text = path.read_text(encoding="utf-8").replace("aegis.bindings.wasi_config_store", "")
            assert not any(function in text for function in functions), path


LENDING = """(component
  (component $shop
    (type $own (resource (rep i32)))
    (core func $new (canon resource.new $own))
    (core module $m
      (import "" "new" (func $new (param i32) (result i32))) (memory (export "mem") 1)
      (global $next (mut i32) (i32.const 16))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $next (i32.add (global.get $next) (local.get 3)))
        (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
        (i32.and (i32.sub (global.get $next) (local.get 3)) (i32.const -4)))
      (func (export "make") (result i32) (call $new (i32.const 7)))
      (func (export "take") (param i32 i32) (result i32) (i32.load (local.get 0))))
    (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
    (export $r "r" (type $own))
    (func (export "make") (result (own $r)) (canon lift (core func $i "make")))
    (func (export "take") (param "l" {0}) (result u32)
      (canon lift (core func $i "take") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))
  (component $user
    (import "r" (type $r (sub resource)))
    (import "make" (func $make (result (own $r))))
    (import "take" (func $take (param "l" {0}) (result u32)))
    (core module $store (memory (export "mem") 32))
    (core instance $store (instantiate $store))
    (core func $make (canon lower (func $make)))
    (core func $take (canon lower (func $take) (memory (core memory $store "mem"))))
    (core module $m
      (import "" "make" (func $make (result i32))) (import "" "mem" (memory 1))
      (import "" "take" (func $take (param i32 i32) (result i32)))
      (func (export "run") (param $outer i32) (param $inner i32) (result i32) (local $n i32) (local $h i32)
        (local.set $h (call $make))
        (loop $again  ;; handles from 1 MiB on, and before them as many lists that are all the same
          (i32.store offset=0x100000 (i32.shl (local.get $n) (i32.const 2)) (local.get $h))
          (i32.store offset=0 (i32.shl (local.get $n) (i32.const 3)) (i32.const 0x100000))
          (i32.store offset=4 (i32.shl (local.get $n) (i32.const 3)) (local.get $inner))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 0x20000))))
        (call $take (i32.const {1}) (local.get $outer))))
    (core instance $i (instantiate $m (with "" (instance
      (export "make" (func $make)) (export "take" (func $take)) (export "mem" (memory $store "mem"))))))
    (func (export "run") (param "outer" u32) (param "inner" u32) (result u32) (canon lift (core func $i "run"))))
  (instance $s (instantiate $shop))
  (alias export $s "r" (type $r))
  (instance $u (instantiate $user (with "r" (type $r)) (with "make" (func $s "make")) (with "take" (func $s "take"))))
  (export "run" (func $u "run")))"""


def test_lists_of_borrowed_handles_pass_between_the_parts_of_a_component() -> None:
    """Like composed programs that pass pollables: the component that owns a resource receives its representation."""
    made = Aegis(cache=False)
    with made.sandbox(made.load_wat(LENDING.format("(list (borrow $r))", 0x100000))) as sandbox:
        assert sandbox.call("run", 3, 0) == 7
    with made.sandbox(made.load_wat(LENDING.format("(list (list (borrow $r)))", 0))) as sandbox:
        assert sandbox.call("run", 2, 3) == 36


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("inner", "limit"), [(0x20000, "handles"), (4000, "value_bytes"), (0, "value_bytes")])
def test_lists_of_lists_of_borrowed_handles_keep_no_more_than_a_value_may(inner: int, limit: str, place: str) -> None:
    """GHSA-6fr9-xmw9-5352: a list of lists in 2 MiB of guest memory made the host allocate gigabytes."""
    text = LENDING.format("(list (list (borrow $r)))", 0)
    with runtime(place, value_bytes="64MiB" if inner else "4MiB") as made, made.sandbox(made.load_wat(text)) as sandbox:
        with pytest.raises(QuotaExceeded) as caught:
            sandbox.call("run", 0x20000, inner)
        assert caught.value.limit == limit


def test_a_component_without_parts_takes_lists_of_borrowed_handles_from_its_host_and_gives_them() -> None:
    """As in ``wasi:io/poll``, the arguments of the host function count against the limits."""
    Aegis(cache=False).load_wat("""(component
        (import "a" (instance $a (export "r" (type $r (sub resource)))
            (export "poll" (func (param "l" (list (borrow $r))) (result (list u32)))))))""")


REFERENCES = {
    "a table": "(table 4 externref)",
    "an imported table": '(import "e" "t" (table 4 externref))',
    "a global": "(global (mut externref) (ref.null extern))",
    "an imported global": '(import "e" "g" (global externref))',
    "a parameter": "(func (param externref))",
    "a result": "(func (result externref) unreachable)",
    "an imported function": '(import "e" "f" (func (param externref)))',
    "a type alone": "(type (func (param externref)))",
    "a local": "(func (local externref))",
    "a null": "(func (drop (ref.null extern)))",
    "a block": "(func (drop (block (result externref) (ref.null extern))))",
    "a select": "(func (drop (select (result externref) (ref.null extern) (ref.null extern) (i32.const 1))))",
    "elements": "(table 4 externref) (elem (table 0) (i32.const 0) externref (ref.null extern))",
    "passive elements": "(elem externref (ref.null extern))",
}
OTHERS = {
    "struct": "(type $s (struct)) (func (drop (struct.new $s)))",
    "array": "(type $a (array i8)) (func (drop (array.new_default $a (i32.const 9))))",
    "i31": "(func (drop (ref.i31 (i32.const 1))))",
    "anyref": "(func (local anyref))",
    "eqref": "(table 4 eqref)",
    "null references": "(global nullexternref (ref.null noextern))",
    "exception": "(tag) (func (throw 0))",
    "exnref": "(func (local exnref))",
    "typed reference": "(type $f (func)) (func (param (ref $f)))",
    "conversion": "(func (param anyref) (drop (extern.convert_any (local.get 0))))",
}


@pytest.mark.parametrize("body", REFERENCES.values(), ids=REFERENCES.keys())
def test_externref_is_rejected_wherever_it_stands(body: str) -> None:
    """Even in a table or a global alone, it makes the engine allocate a garbage-collected heap for the store."""
    data = text_to_binary(f"(module {body})")
    for pooled in (True, False):
        with pytest.raises(ArtifactError, match="the module uses externref or another"):
            Aegis(cache=False, pooled=pooled).load(data)
    with pytest.raises(ArtifactError, match="externref"):
        Aegis(cache=False).load_wat(f"(component (core module {body}))")
    with pytest.raises(ArtifactError, match="externref"):
        validate_artifact(data, Limits(), EngineConfig.from_limits(Limits()))


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS.keys())
def test_every_type_that_needs_a_collected_heap_is_rejected(body: str) -> None:
    with pytest.raises(ArtifactError):
        Aegis(cache=False).load_wat(f"(module {body})")
    with pytest.raises(ArtifactError):
        Aegis(cache=False).load_wat(f"(component (core module {body}))")


@only_where_there_are_workers
def test_externref_is_rejected_in_a_compile_worker_too() -> None:
    with isolated() as runtime:
        for body in (REFERENCES["a local"], REFERENCES["a table"], OTHERS["i31"]):
            with pytest.raises(ArtifactError):
                runtime.load_wat(f"(module {body})")


def test_functions_in_tables_and_globals_work_as_before() -> None:
    runtime = Aegis(cache=False)
    module = runtime.load_wat("""(module
        (table 2 funcref) (elem (i32.const 0) func $seven) (global (mut funcref) (ref.null func))
        (func $seven (result i32) i32.const 7)
        (func (export "f") (result i32)
            (global.set 0 (ref.func $seven)) (drop (table.grow (global.get 0) (i32.const 1)))
            (call_indirect (result i32) (i32.const 2))))""")
    with runtime.sandbox(module) as sandbox:
        assert sandbox.call("f") == 7


def test_every_proposal_is_either_on_or_off() -> None:
    assert not set(ADMITTED) & set(REFUSED)
    assert set(REFUSED) >= advisories._GC_PROPOSALS


# -- who says it -----------------------------------------------------------------------------------


def test_doctor_and_the_report_name_the_versions_and_every_advisory() -> None:
    facts = engine_facts()
    text = command("doctor").out
    assert f"wasmtime {facts.version} (wasmtime-py {facts.package})" in text
    for finding in facts.findings:
        assert f"{finding.advisory.id} " in text
    assert text.count("reachable here: no, because") == len(facts.findings)
    assert command("-f", "json", "doctor").document["engine"] == facts.to_dict()
    for words in (["run", source("hello")], ["run", "-e", "nothing", source("add")]):
        engine = command("-f", "json", *words).document["engine"]
        assert engine == facts.to_dict()
        assert engine["version"] == built_version()
        assert engine["package"] == f"wasmtime-py {library_version()}"
    assert "none reachable here" in command("run", "--metrics", source("hello")).err


@only_where_there_are_workers
def test_strict_isolation_refuses_an_engine_with_a_defect_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisories, "ADVISORIES", (*ADVISORIES, PLANTED))
    with pytest.raises(PolicyError) as refused:
        Aegis(isolation="strict")
    assert "strict rejects wasmtime" in str(refused.value)
    assert f"{PLANTED.id} (a defect for tests), fixed in 51.0.0" in str(refused.value)
    assert "\n" not in str(refused.value)
    for isolation in (True, None):
        with (
            Aegis(isolation=isolation, cache=False) as runtime,
            runtime.sandbox(runtime.load_file(source("add"))) as box,
        ):
            assert box.call("add", 2, 3) == 5
    monkeypatch.setattr(advisories, "ADVISORIES", (replace(PLANTED, needs=frozenset({"native-wasi"})),))
    Aegis(isolation="strict").close()


PLANTING = """
import sys
from aegis.engine.native import advisories
from tests.engine.test_advisories import PLANTED
advisories.ADVISORIES = (PLANTED,)
from aegis.cli import main
sys.exit(main())
"""


@only_where_there_are_workers
def test_the_command_refuses_it_in_one_line_and_doctor_warns() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", PLANTING, *words], capture_output=True, text=True, timeout=60, check=False,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    guest = str(source("hello"))
    strict = run("run", "--isolate=strict", guest)
    assert (strict.returncode, strict.stdout) == (125, "")
    assert strict.stderr.count("\n") == 1
    assert PLANTED.id in strict.stderr
    assert run("run", "--isolate", guest).stdout == "hello, world\n"
    doctor = run("doctor")
    assert doctor.returncode == 0
    assert re.search(rf"^warning +{PLANTED.id} .*reachable here: yes", doctor.stdout, re.MULTILINE)
    assert f"reachable here: {PLANTED.id}" in run("run", "--metrics", guest).stderr
