"""Compile bombs: each class is rejected before the compiler sees it; modules that pass compile within stated bounds."""

from __future__ import annotations

import os
import resource
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from aegis import Aegis, Limits
from aegis.engine.compile.config import EngineConfig
from aegis.errors import ArtifactError
from aegis.sandbox.artifacts import validate_artifact
from tests.cli.command import aegis
from tests.guests.catalogue import GUESTS, ROOT

MAKER = runpy.run_path(str(GUESTS / "hostile" / "compile-bombs" / "make.py"))
KINDS: dict[str, Callable[..., bytes]] = MAKER["KINDS"]
RUNTIME = Aegis(cache=False, pooled=False)

REFUSALS = {
    "functions": "function limit exceeded (200,000/100,000 functions): raise it with functions or --functions",
    "function": "function-size limit exceeded (3,999,998/1,048,576 bytes of code in function 0): raise it with ",
    "locals": "--function-size",
    "nesting": "nesting limit exceeded (50,000/10,000 nested blocks in function 0): raise it with ",
    "elements": "element section too large (3,000,006/524,288 bytes): split the module",
    "segments": "too many element segments (100,000/10,000): split the module",
    "types": "too many types (100,001/10,000): split the module",
    "constant": "a constant expression has more than 1,000 instructions",
    "offset": "a constant expression has more than 1,000 instructions",
    "sections": "the module has more than 10,000 sections",
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_of_bomb_is_refused_before_it_is_compiled(kind: str) -> None:
    data = KINDS[kind]()
    before = time.process_time()
    with pytest.raises(ArtifactError) as caught:
        RUNTIME.load(data)
    assert time.process_time() - before < 5  # even the smallest of them takes a compiler longer
    assert REFUSALS.get(kind, "µs on one core for function 0, 1/20 of 100,000,000): raise it with ") in str(
        caught.value
    )


def test_the_published_bomb_is_refused() -> None:
    published = runpy.run_path(str(GUESTS / "hostile" / "compile-bomb" / "make.py"))["module"]()
    with pytest.raises(ArtifactError, match="raise it with complexity or --complexity if you trust"):
        RUNTIME.load(published)


def test_more_locals_than_the_limit_are_refused_by_their_declaration() -> None:
    with pytest.raises(ArtifactError, match=r"local limit exceeded \(30,001/20,000 locals in function 0\)"):
        RUNTIME.load(MAKER["module"](MAKER["body"](b"", 30_000)))
    with pytest.raises(ArtifactError, match=r"4,294,967,296/20,000 locals in function 0"):
        RUNTIME.load(MAKER["module"](MAKER["body"](b"", (1 << 32) - 1)))


def test_many_functions_below_the_limit_of_one_are_refused_together() -> None:
    with pytest.raises(ArtifactError, match=r"\(10[0-9],[0-9]{3},[0-9]{3}/100,000,000 µs on one core"):
        RUNTIME.load(KINDS["growing"](3000, 65))


@pytest.mark.parametrize("kind", ["loops", "types", "functions"])
def test_validating_reports_the_same_as_running(kind: str) -> None:
    with pytest.raises(ArtifactError, match=r"^the module: .*(--functions|--complexity|split the module)"):
        validate_artifact(KINDS[kind](), Limits(), EngineConfig.from_limits(Limits()))


def test_a_bomb_inside_a_component_is_refused(tmp_path: Any) -> None:
    for data in (KINDS["carried"](), KINDS["nesting"]()):
        core = b"\x01" + MAKER["leb"](len(data)) + data
        component = b"\0asm\x0d\0\1\0" + core
        nested = b"\0asm\x0d\0\1\0" + b"\x04" + MAKER["leb"](len(component)) + component
        for whole in (component, nested):
            with pytest.raises(ArtifactError, match=r"^the module: .*function 0"):
                RUNTIME.load(whole)


def test_the_command_refuses_with_its_own_ending(tmp_path: Any) -> None:
    path = tmp_path / "bomb.wasm"
    path.write_bytes(KINDS["loops"]())
    ended = aegis("-f", "json", "run", "--no-cache", path)
    assert (ended.code, ended.document["status"]) == (126, "refused")
    path.write_bytes(KINDS["loops"](100))
    ended = aegis("run", "--no-cache", "--complexity=10k", "-e", "run", path, "0")
    assert (ended.code, "or --complexity" in ended.err) == (126, True)
    assert aegis("run", "--no-cache", "--complexity=none", "-e", "run", path, "0").code == 0


COMPONENT = b"\0asm\x0d\0\1\0"


def part(number: int, content: bytes) -> bytes:
    return bytes([number]) + MAKER["leb"](len(content)) + content


def nested(levels: int) -> bytes:
    data = COMPONENT
    for _ in range(levels):
        data = COMPONENT + part(4, data)
    return data


MODULES = part(1, b"\0asm\1\0\0\0") * 50_000
MADE = part(2, MAKER["leb"](50_000) + b"".join(b"\0" + MAKER["leb"](n) + b"\0" for n in range(50_000)))
SHAPES = {
    "depth": (nested(5000), "components are nested deeper than 64"),
    "sections": (COMPONENT + b"\0\2\1a" * 2_000_000, "types, instances and names take more than 2,097,152 bytes"),
    "types": (COMPONENT + part(7, MAKER["leb"](900_000) + b"\x70\x7f" * 900_000) * 2, "instances and names take more"),
    "items": (
        COMPONENT + part(7, MAKER["leb"](1_100_000) + b"\x7f" * 1_100_000),
        "a vector has too many items",
    ),
    "scopes": (COMPONENT + part(7, b"\1" + b"\x41\1\1" * 5000 + b"\x41\0"), "types are nested deeper than 100"),
    "made": (
        COMPONENT + part(4, COMPONENT + MODULES + MADE) + part(5, MAKER["leb"](100_000) + b"\0\0\0" * 100_000),
        "instances and names take more",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_component_is_read_in_linear_time_and_to_a_bounded_depth(shape: str) -> None:
    data, message = SHAPES[shape]
    before = time.process_time()
    with pytest.raises(ArtifactError, match=message):
        RUNTIME.load(data)
    assert time.process_time() - before < 10


# Nearly the largest of each class that passes; the worst case of straight code is bounded by module_size only.
LARGEST: list[tuple[str, tuple[int, ...]]] = [
    ("functions", (100_000,)), ("function", (1_000_000,)), ("locals", (1000,)), ("nesting", (9_000,)),
    ("loops", (5200,)),
    ("values", (380, 200)), ("labels", (240, 240)), ("targets", (60_000, 8)), ("merges", (300, 200)),
    ("carried", (1350, 1350)), ("indirect", (19_000,)), ("growing", (5200,)), ("elements", (170_000,)),
    ("segments", (10_000,)), ("types", (9_999,)), ("constant", (450,)),
]  # fmt: skip

LONG = {"functions", "function", "loops", "merges", "carried", "indirect", "elements", "types", "growing", "targets"}
"""The classes that take seconds of processor time."""
COMPILE = """
import sys, resource
from aegis import Aegis
data = sys.stdin.buffer.read()
Aegis(cache=False, pooled=False).load(data)
"""


def capped() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))  # in addition to the memory of Python and the engine


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts no reservations on Linux alone")
@pytest.mark.parametrize(
    ("kind", "numbers"),
    [pytest.param(*one, id=one[0], marks=[pytest.mark.long] if one[0] in LONG else []) for one in LARGEST],
)
def test_admitted_functions_compile_in_a_gibibyte(kind: str, numbers: tuple[int, ...]) -> None:
    """Oracle: a function within every limit compiles under a cap of 1 GiB; the time bound is generous."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        input=KINDS[kind](*numbers),
        capture_output=True,
        timeout=900,  # compilation has its own limits; this one only ends a test that hangs
        preexec_fn=capped,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
