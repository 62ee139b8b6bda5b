"""Admission: configuration, proposals, malformed bytes. Any bytes give a module or a clear error."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis import Aegis, Limits
from aegis.engine.compile.artifact import text_to_binary
from aegis.engine.compile.config import ADMITTED, REFUSED, EngineConfig
from aegis.errors import AegisError, ArtifactError, ArtifactNotFound, PolicyError
from aegis.sandbox.artifacts import validate_artifact
from aegis.wasm.binary import read_module
from tests.guests.catalogue import GUESTS, source

LIMITS = Limits()
CONFIG = EngineConfig.from_limits(LIMITS)
TEXTS = sorted(
    p for p in GUESTS.rglob("*.wat") if "proposals" not in p.parts and "(component" not in p.read_text("utf-8")
)
PROPOSALS = [p for p in sorted((GUESTS / "hostile" / "proposals").glob("*.wat")) if p.stem != "component"]


@pytest.mark.parametrize("stack", [0, 1, -1, 16 * 1024 - 1, (2 << 20) + 1, 1 << 40])
def test_a_stack_that_would_abort_the_process_is_refused(stack: int) -> None:
    with pytest.raises(PolicyError, match="stack"):
        EngineConfig(stack=stack)


def test_the_list_of_proposals_is_frozen() -> None:
    assert sorted(ADMITTED) == [
        "bulk_memory", "component_model_implements", "multi_memory", "multi_value", "reference_types", "simd",
        "tail_call",
    ]  # fmt: skip
    assert {"threads", "memory64", "gc", "exceptions", "stack_switching", "component_model_async"} <= set(REFUSED)


@pytest.mark.parametrize("path", PROPOSALS, ids=lambda p: p.stem)
def test_a_module_of_a_refused_proposal_is_refused_or_harmless(path: Path) -> None:
    try:
        data = text_to_binary(path.read_bytes())
        validate_artifact(data, LIMITS, CONFIG)
    except ArtifactError:
        return
    assert path.stem.startswith("v128"), "admitted, but for signatures that only linking can judge"
    runtime = Aegis(cache=False)
    module = runtime.load(data)
    try:
        sandbox = runtime.sandbox(module)
    except AegisError:
        return
    with sandbox:
        for export in module.exports:
            if export.kind == "func" and "v128" in str(export.type):
                with pytest.raises(AegisError):
                    sandbox.call(export.name)
            if export.kind == "global":
                with pytest.raises(AegisError):
                    sandbox.globals[export.name]


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_our_reader_agrees_with_the_engines(path: Path) -> None:
    data = text_to_binary(path.read_bytes())
    info = read_module(data)
    config = wasmtime.Config()
    native = wasmtime.Module(wasmtime.Engine(config), data)
    assert [(i.module, i.name) for i in info.imports] == [(i.module, i.name) for i in native.imports]
    assert [e.name for e in info.exports] == [e.name for e in native.exports]
    for actual, expected in zip(info.exports, native.exports, strict=True):
        if actual.kind == "func":
            assert actual.type.params == tuple(map(str, expected.type.params))  # type: ignore[union-attr]
            assert actual.type.results == tuple(map(str, expected.type.results))  # type: ignore[union-attr]


SEEDS = [text_to_binary(source(name).read_bytes()) for name in ("wordcount", "counter", "hostile/memory-many")]


@given(data=st.data(), seed=st.sampled_from(SEEDS))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_bytes_end_in_a_module_or_a_refusal(data: st.DataObject, seed: bytes) -> None:
    """Oracle: reading and validating mutated bytes returns, or raises ``ArtifactError``."""
    raw = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(8, len(raw)))])
    for subject in (bytes(raw), cut):
        with contextlib.suppress(ArtifactError):
            assert validate_artifact(subject, LIMITS, CONFIG).functions >= 0


@given(st.binary(max_size=200))
@settings(max_examples=300, derandomize=True)
def test_any_sections_are_read_or_refused(tail: bytes) -> None:
    with contextlib.suppress(ArtifactError):
        assert read_module(b"\0asm\1\0\0\0" + tail).functions <= len(tail)


def test_text_is_not_taken_for_a_module() -> None:
    runtime = Aegis(cache=False)
    with pytest.raises(ArtifactError, match="text"):
        runtime.load(b"(module)")
    with pytest.raises(ArtifactError, match="load_wat"):
        runtime.load("(module)")  # type: ignore[arg-type]
    assert runtime.load_wat("(module)").exports == ()


@pytest.mark.parametrize("data", [Path("guest.wasm"), 12, None])
def test_only_bytes_are_a_module(data: object) -> None:
    with pytest.raises(ArtifactError, match=r"a module must be bytes, not \w+: load a file with load_file\(\)"):
        Aegis(cache=False).load(data)  # type: ignore[arg-type]


def test_the_size_is_checked_first(tmp_path: Path) -> None:
    runtime = Aegis(cache=False, module_size=100)
    big = tmp_path / "big.wasm"
    big.write_bytes(b"\0asm\1\0\0\0" + bytes(200))
    with pytest.raises(ArtifactError, match=r"\(101/100 bytes, or more\): raise it with module_size or --module-size"):
        runtime.load_file(big)
    (tmp_path / "big.wat").write_text("(module)" + " " * 200)
    with pytest.raises(ArtifactError, match="module-size limit exceeded"):
        runtime.load_file(tmp_path / "big.wat")
    with pytest.raises(ArtifactNotFound):
        runtime.load_file(tmp_path / "none.wasm")
    with pytest.raises(ArtifactNotFound):
        runtime.load_file("nul\0.wasm")


def test_more_sandboxes_than_the_pool_has_slots() -> None:
    runtime = Aegis(cache=False)
    module = runtime.load_wat('(module (memory 1) (func (export "one") (result i32) i32.const 1))')
    sandboxes = [runtime.sandbox(module) for _ in range(300)]
    assert sum(sandbox.call("one") for sandbox in sandboxes) == 300
    for sandbox in sandboxes:
        sandbox.close()


@pytest.mark.parametrize(
    "fields", ["(global (mut i64) (i64.const 7))" * 150_000, "(memory 1 1)" * 20 + "(table 1 1 funcref)" * 20]
)
def test_a_module_that_is_too_large_for_the_pool_runs_without(fields: str) -> None:
    runtime = Aegis(cache=False, memories=30, tables=30)
    module = runtime.load_wat(f'(module {fields} (func (export "one") (result i32) i32.const 1))')
    for _ in range(2):
        with runtime.sandbox(module) as sandbox:
            assert sandbox.call("one") == 1
