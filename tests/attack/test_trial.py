"""The oracle: any bytes end in a documented outcome within the deadline, and the worker survives."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import nullcontext
from unittest import mock

import pytest

from aegis.attack import trial
from aegis.attack.cases import AbiCase, ExportCase, PeerCase, component_text
from aegis.attack.codegen import RawCall
from aegis.attack.inputs import AttackInput
from aegis.attack.sources import SOURCES, source
from aegis.attack.triage import coarse, fault_of
from aegis.attack.trial import LIMITS, Bounds, Harness, TrialResult
from aegis.attack.watch import GrantedFolder, ResourceWatch, count_resources
from aegis.component.shims.adapter_module import AdapterModule
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import AegisInternalError, ArtifactError, HostError, WorkerCrashed
from aegis.wit.types import Function

BOMB = "guests/build/hostile/compile-bomb.wasm"


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    made = Harness(Bounds(), LIMITS.with_(timeout=0.3))
    yield made
    made.close()


def run(harness: Harness, text: str | bytes, number: int = 0) -> TrialResult:
    data = text if isinstance(text, bytes) else text_to_binary(text)
    return harness.run(AttackInput(source="test", number=number, data=data, label=""))


def statuses(result: TrialResult, phase: str) -> set[str]:
    return {status for name, status, _ in result.endings if name == phase}


GOOD = '(module (memory 1) (func (export "f") (param i32) (result i32) (local.get 0)))'
CASES = {
    "good": (GOOD, "call", "returned"),
    "empty": (b"", "load", "refused"),
    "garbage": (b"\0asm\1\0\0\0\xff\xff", "load", "refused"),
    "invalid": ('(module (func (export "f") (result i32)))', "load", "refused"),
    "trapping": ('(module (func (export "f") unreachable))', "call", "trap"),
    "hanging": ('(module (func (export "f") (loop $l (br $l))))', "call", "out-of-fuel"),
    "starting without end": ("(module (func $f (loop $l (br $l))) (start $f))", "instantiate", "out-of-fuel"),
    "hungry": ("(module (memory 1000))", "instantiate", "memory-exceeded"),
    "wanting a table": ('(module (import "env" "t" (table 1 funcref)))', "instantiate", "refused"),
    "recursing": ('(module (func $f (export "f") (call $f)))', "call", "stack-exhausted"),
    "asking": (
        '(module (import "env" "h" (func $h (result f32))) (func (export "f") (drop (call $h))))', "call", "returned",
    ),
    "exiting": (
        '(module (import "wasi_snapshot_preview1" "proc_exit" (func $e (param i32))) (memory (export "memory") 1)'
        ' (func (export "_start") (call $e (i32.const 3))))', "call", "exited",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_whatever_a_guest_does_has_its_documented_label(harness: Harness, name: str) -> None:
    text, phase, status = CASES[name]
    result = run(harness, text)
    assert statuses(result, phase) == {status}
    assert not result.faults


def test_changes_outside_the_grant_are_detected(harness: Harness) -> None:
    result = run(harness, GOOD, number=3)
    assert statuses(result, "call") == {"returned"}
    granted = harness.granted()[1]
    assert granted.escaped() == ""
    (granted.path / "hello").write_text("a guest may")
    assert granted.escaped() == ""
    (granted.outside / "secret").write_text("a guest may not!")
    assert granted.escaped() == "a guest changed files outside its grant: secret"
    granted.renew()
    assert granted.escaped() == ""


@pytest.mark.usual("smith", "mutate", "flips")
@pytest.mark.parametrize("name", SOURCES)
def test_a_short_campaign_of_each_source_finds_nothing(harness: Harness, name: str) -> None:
    from aegis.attack.seeds import built_in

    make = source(name, 5, built_in())
    for number in range(6):
        result = harness.run(make(number))
        assert not result.faults, (number, result.faults)
        assert result.endings


@pytest.mark.parametrize(
    ("error", "signature"),
    [
        (KeyError("x"), "load undocumented KeyError"),
        (ArtifactError("the input: 7 is odd"), "call undocumented ArtifactError: N is odd"),
        (HostError("'x' raised KeyError: 3"), "call undocumented HostError: … raised KeyError: N"),
        (AegisInternalError("the engine failed: at 0x1f"), "load internal AegisInternalError: the engine failed: at N"),
        (WorkerCrashed("the worker died of signal 11", signal=11), "call crash WorkerCrashed(11)"),
    ],
)  # fmt: skip
def test_an_undocumented_error_is_a_fault(harness: Harness, error: Exception, signature: str) -> None:
    def fails() -> None:
        raise error

    result = TrialResult()
    of = trial._Trial(harness, AttackInput(source="test", number=0, data=b"", label=""))
    of.result = result
    assert of._phase(signature.split()[0], 1.0, fails) is None
    assert [fault.signature for fault in result.faults] == [signature]


def test_a_late_phase_is_a_fault() -> None:
    of = trial._Trial.__new__(trial._Trial)
    of.result = TrialResult()
    of.harness = Harness.__new__(Harness)
    of.harness.bounds, of.harness.on_phase = Bounds(slack=-2.0), lambda phase: None
    assert of._phase("call", 1.0, lambda: 7) == 7
    assert [fault.signature for fault in of.result.faults] == ["call late"]


def test_a_fault_knows_its_place() -> None:
    from aegis.wasm.digest import sha256_hex

    try:
        sha256_hex(7)  # type: ignore[arg-type]
    except TypeError as error:
        fault = fault_of("load", error)
    assert fault.signature == "load undocumented TypeError wasm.digest.sha256_hex"
    assert type(fault).of(fault.to_dict()) == fault


def test_messages_of_one_class_are_the_same() -> None:
    assert coarse("the input: function 7: 'x' at 0x1f") == coarse("the input: function 12: 'yy' at 0x2e0")
    assert coarse("a") != coarse("b")


def test_a_leak_in_every_run_is_a_fault_and_a_single_growth_is_not() -> None:
    """The resource counts are supplied by the test: a garbage collection closes descriptors of earlier tests."""
    held = {"descriptors": 30, "threads": 1, "processes": 0, "memory": 1 << 20}

    def keep(descriptors: int) -> None:
        held["descriptors"] += descriptors

    watch = ResourceWatch(lambda: dict(held))
    for _ in range(12):
        assert watch.left_behind(lambda: None) is None
    keep(14)
    assert watch.left_behind(lambda: None) is None
    keep(14)
    fault = watch.left_behind(lambda: keep(1))
    assert fault is not None
    assert fault.signature == "after left-behind descriptors"


def test_descriptors_of_this_process_are_counted() -> None:
    gc.collect()
    before = count_resources()["descriptors"]
    kept = [os.dup(0) for _ in range(200)]
    try:
        assert count_resources()["descriptors"] > before + 100, "collected garbage gives back some, never a hundred"
    finally:
        for descriptor in kept:
            os.close(descriptor)


def test_a_granted_folder_is_as_new_each_time() -> None:
    granted = GrantedFolder()
    (granted.path / "folder" / "inner").unlink()
    granted.renew()
    assert (granted.path / "folder" / "inner").read_text() == "hello"


def test_calls_between_components_are_compared_with_and_without_the_host(harness: Harness) -> None:
    """Oracle: a surrogate passes only with a defect planted in the adapters, and only then do the runs differ."""
    function = Function((("x", "char"),))
    for code, peer in ((0xD800, PeerCase()), (0x61, PeerCase()), (0xD800, None)):
        reported = ExportCase(function=Function(), calls=(RawCall(0, (("const", code),)),))
        data = text_to_binary(
            component_text(AbiCase(exports=(reported,), host=function, careful=False, opens=False, peer=peer))
        )
        for planted in (False, True):
            with mock.patch.object(AdapterModule, "trap", return_value="nop") if planted else nullcontext():
                result = harness.run(AttackInput(source="liar", number=0, data=data, label=""))
            wanted = planted and peer is not None and code == 0xD800
            assert [fault.kind for fault in result.faults] == ["differs"] * wanted
