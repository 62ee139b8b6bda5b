"""The benchmark of start-up: the time of a process from its start to its end.

Each row compares two commands, run alternately. Processor time is the kernel's account of the child, user and system
together (wait4(2)); it is the median of many runs, because other programs load the machine. wasmtime-py's script loads
precompiled code, as ``aegis run`` finds code in its cache.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
HELLO = ROOT / "guests" / "hello" / "hello.wat"
AEGIS = "import sys; sys.argv[0] = 'aegis'; from aegis.cli import main; sys.exit(main())"
THEIRS = """
import sys, wasmtime
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
wasi = wasmtime.WasiConfig()
wasi.inherit_stdout()
store.set_wasi(wasi)
linker = wasmtime.Linker(engine)
linker.define_wasi()
module = wasmtime.Module.deserialize_file(engine, sys.argv[1])
linker.instantiate(store, module).exports(store)["_start"](store)
"""


class _Spent(NamedTuple):
    processor: float
    wall: float


def _spent(*words: str) -> _Spent:
    """Run Python with these words, and return its processor time."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        started = time.perf_counter()
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-I", "-c", *words], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)],
        )  # fmt: skip
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - started
    finally:
        os.close(null)
    if status:
        raise RuntimeError(f"{words}: wait status {status}")
    return _Spent(usage.ru_utime + usage.ru_stime, wall)


def start(rounds: int) -> list[Row]:
    """``import aegis``, ``aegis run`` of a small cached module, and the same isolated."""
    import wasmtime

    with tempfile.TemporaryDirectory() as folder:
        binary, code = Path(folder, "hello.wasm"), Path(folder, "hello.cwasm")
        binary.write_bytes(wasmtime.wat2wasm(HELLO.read_text()))
        code.write_bytes(wasmtime.Module(wasmtime.Engine(), binary.read_bytes()).serialize())
        commands = {
            "pass": ("pass",),
            "click": ("import click",),
            "import": ("import aegis",),
            "run": (AEGIS, "run", str(binary)),
            "isolated": (AEGIS, "run", "--isolate", str(binary)),
            "reference": (THEIRS, str(code)),
        }
        taken: dict[str, list[_Spent]] = {name: [] for name in commands}
        for turn in range(6 * rounds + 1):
            for name, words in commands.items():
                spent = _spent(*words)
                if turn:  # the first run fills the caches
                    taken[name].append(spent)
    cpu = {name: statistics.median(one.processor for one in all_) for name, all_ in taken.items()}
    wall = {name: statistics.median(one.wall for one in all_) for name, all_ in taken.items()}
    return [
        _row("import aegis, processor time, against python -c pass", cpu["import"], cpu["pass"], 1.3),
        _row("aegis run, cached, processor time, against a script on wasmtime-py", cpu["run"], cpu["reference"], 0.7),
        _row("the same, against python -c 'import click'", cpu["run"], cpu["click"], 1.6),
        _row("aegis run --isolate, wall time, against aegis run", wall["isolated"], wall["run"], 1.6),
    ]


def _row(what: str, measured: float, reference: float, most: float) -> Row:
    return Row(what, measured, reference, measured / reference, f"<= {most:g}x the time", measured <= most * reference)


PARTS = (start,)
