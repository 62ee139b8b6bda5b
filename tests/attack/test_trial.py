"""The oracle: any bytes end in a documented outcome within the deadline, and the worker lives."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import nullcontext
from unittest import mock

import pytest

from aegis.attack import trial
from aegis.attack.cases import Lie, Listener, Told, text_of
from aegis.attack.codegen import Act
from aegis.attack.inputs import Input
from aegis.attack.sources import SOURCES, source
from aegis.attack.triage import coarse, fault_of
from aegis.attack.trial import LIMITS, Bench, Bounds, Verdict
from aegis.attack.watch import Granted, Watch, counted
from aegis.component.shims.adapter_module import AdapterModule
from aegis.engine.compile.artifact import text_to_binary
from aegis.errors import AegisInternalError, ArtifactError, HostError, WorkerCrashed
from aegis.wit.types import Function

BOMB = "guests/build/hostile/compile-bomb.wasm"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench(Bounds(), LIMITS.with_(timeout=0.3))
    yield made
    made.close()


def run(bench: Bench, text: str | bytes, number: int = 0) -> Verdict:
    data = text if isinstance(text, bytes) else text_to_binary(text)
    return bench.run(Input(source="test", number=number, data=data, label=""))


def statuses(verdict: Verdict, phase: str) -> set[str]:
    return {status for name, status, _ in verdict.endings if name == phase}


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
def test_whatever_a_guest_does_has_its_documented_label(bench: Bench, name: str) -> None:
    text, phase, status = CASES[name]
    verdict = run(bench, text)
    assert statuses(verdict, phase) == {status}
    assert not verdict.faults


def test_what_is_granted_is_looked_into(bench: Bench) -> None:
    verdict = run(bench, GOOD, number=3)
    assert statuses(verdict, "call") == {"returned"}
    granted = bench.granted()[1]
    assert granted.escaped() == ""
    (granted.path / "hello").write_text("a guest may")
    assert granted.escaped() == ""
    (granted.outside / "secret").write_text("a guest may not!")
    assert granted.escaped() == "a guest changed what was not granted: secret"
    granted.renew()
    assert granted.escaped() == ""


@pytest.mark.parametrize("name", SOURCES)
def test_a_short_campaign_of_each_source_finds_nothing(bench: Bench, name: str) -> None:
    from aegis.attack.seeds import built_in

    make = source(name, 5, built_in())
    for number in range(6):
        verdict = bench.run(make(number))
        assert not verdict.faults, (number, verdict.faults)
        assert verdict.endings


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
def test_what_no_documentation_lists_is_a_fault(bench: Bench, error: Exception, signature: str) -> None:
    def fails() -> None:
        raise error

    verdict = Verdict()
    of = trial._Trial(bench, Input(source="test", number=0, data=b"", label=""))
    of.verdict = verdict
    assert of._phase(signature.split()[0], 1.0, fails) is None
    assert [fault.signature for fault in verdict.faults] == [signature]


def test_what_ends_late_is_a_fault() -> None:
    of = trial._Trial.__new__(trial._Trial)
    of.verdict = Verdict()
    of.bench = Bench.__new__(Bench)
    of.bench.bounds, of.bench.told = Bounds(slack=-2.0), lambda phase: None
    assert of._phase("call", 1.0, lambda: 7) == 7
    assert [fault.signature for fault in of.verdict.faults] == ["call late"]


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


def test_what_is_left_behind_each_time_is_a_fault_and_what_is_kept_once_is_not() -> None:
    """The counts are the test's own: collecting garbage closes what other tests of this process dropped."""
    held = {"descriptors": 30, "threads": 1, "processes": 0, "memory": 1 << 20}

    def keep(descriptors: int) -> None:
        held["descriptors"] += descriptors

    watch = Watch(lambda: dict(held))
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
    before = counted()["descriptors"]
    kept = [os.dup(0) for _ in range(200)]
    try:
        assert counted()["descriptors"] > before + 100, "collected garbage gives back some, never a hundred"
    finally:
        for descriptor in kept:
            os.close(descriptor)


def test_a_granted_folder_is_as_new_each_time() -> None:
    granted = Granted()
    (granted.path / "folder" / "inner").unlink()
    granted.renew()
    assert (granted.path / "folder" / "inner").read_text() == "hello"


def test_calls_between_components_are_compared_with_and_without_the_host(bench: Bench) -> None:
    """Oracle: a fault is planted in the adapters, which then let a surrogate through, or do not."""
    function = Function((("x", "char"),))
    for code, listener in ((0xD800, Listener()), (0x61, Listener()), (0xD800, None)):
        told = Told(function=Function(), acts=(Act(0, (("const", code),)),))
        data = text_to_binary(text_of(Lie(told=(told,), host=function, careful=False, opens=False, listener=listener)))
        for planted in (False, True):
            with mock.patch.object(AdapterModule, "trap", return_value="nop") if planted else nullcontext():
                verdict = bench.run(Input(source="liar", number=0, data=data, label=""))
            wanted = planted and listener is not None and code == 0xD800
            assert [fault.kind for fault in verdict.faults] == ["differs"] * wanted
