"""F28: how the engine uses a custom memory creator, tested with plain wasmtime-py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CREATOR = (Path(__file__).parent / "memory_creator.py").read_text(encoding="utf-8")
GROWS = '(module (memory 1) {data} (func (export "go") (result i32) (memory.grow (i32.const 2))))'


def run(program: str) -> subprocess.CompletedProcess[str]:
    source = f"{CREATOR}\n{program}"
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)


def test_f28_a_memory_creator_sees_every_memory_and_every_growth() -> None:
    done = run(
        f"store, made = instance({GROWS.format(data='')!r}, cow=False)\n"
        "print(made.exports(store)['go'](store), seen)\n"
        "refuse = True\n"
        "print(made.exports(store)['go'](store), seen)\n"
    )
    assert done.stdout.splitlines() == [
        "1 [('new', 65536), ('grow', 196608)]",
        "-1 [('new', 65536), ('grow', 196608), ('grow', 327680)]",
    ], done.stderr


def test_f28_after_instantiation_only_a_growth_asks_where_a_memory_is() -> None:
    done = run(
        'store, made = instance(\'(module (memory (export "m") 1) (func (export "size") (result i32) '
        "(i32.store (i32.const 8) (i32.const 7)) (memory.size)))', cow=False)\n"
        "before = asked[0]\n"
        "exports = made.exports(store)\n"
        "print(exports['size'](store), exports['m'].data_len(store), exports['m'].read(store, 8, 9)[0])\n"
        "print(asked[0] - before)\n"
    )
    assert done.stdout.split() == ["1", "65536", "7", "0"], done.stderr


def test_f28_with_a_memory_creator_an_image_that_is_mapped_ends_the_process() -> None:
    data = '(data (i32.const 0) "x")'
    assert run(f"instance({GROWS.format(data=data)!r}, cow=True)\n").returncode < 0
    assert run(f"instance({GROWS.format(data=data)!r}, cow=False)\n").returncode == 0
