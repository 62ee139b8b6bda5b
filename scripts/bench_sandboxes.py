"""The benchmark of sandboxes: create, run, close; and memory per live sandbox.

Guests that call the host run directly on a thread with a large stack; on the main thread their calls move to such a
thread, which costs two thread switches and has a row of its own. If the guest prints, both sides keep the text: Aegis
in the sandbox, wasmtime-py in a file in memory, because its callback on native threads may abort the process at exit.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_components import _best, _faster, _on_a_thread, native_engine
from bench_rows import Row

__all__ = ["PARTS"]

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "guests" / "build"
SHARED = Path("/dev/shm")
LIVE = 1000
_RUN = "after its run"


def sandboxes(rounds: int) -> list[Row]:
    """Create, call and close: components without imports, and programs that print a line."""
    rows = [*_small(rounds), *_on_a_thread(lambda: _programs("", rounds)), *_programs(" (main thread)", rounds)]
    return [*rows, *_on_a_thread(lambda: _python(rounds))]


def _turns(rounds: int, *timed: tuple[Callable[[], object], int]) -> list[float]:
    """Run the functions alternately, in turns so short that some have a processor to themselves; return the best of
    each.
    """
    taken = [[_best(function, max(1, count // 20)) for function, count in timed] for _ in range(20 * rounds)]
    return [min(column) for column in zip(*taken, strict=True)]


def _small(rounds: int) -> list[Row]:
    import aegis
    from tests.echo import own_echo_component

    wasmtime, engine = native_engine()
    from wasmtime import component as native

    text = own_echo_component("u32")
    reference, linker = native.Component(engine, text), native.Linker(engine)

    def measured(pooled: bool) -> Callable[[], object]:
        runtime = aegis.Aegis(cache=False, pooled=pooled)
        component = runtime.load_wat(text)

        def life() -> None:
            with runtime.sandbox(component) as sandbox:
                sandbox.call("echo-back", 1)

        return life

    def other() -> None:
        with wasmtime.Store(engine) as store:
            function = linker.instantiate(store, reference).get_func(store, "echo-back")
            function(store, 1)
            function.post_return(store)

    plain, pooled, bare = _turns(rounds, (measured(False), 500), (measured(True), 500), (other, 300))
    what = "component without imports: create + call + close"
    return [_faster(what, plain, bare, 1.3), _faster(f"{what}, pooled", pooled, bare, 2.5)]


def _measured(name: str, **options: Any) -> Callable[[], object]:
    """Return a function that creates, runs and closes a sandbox of a guest that prints a line."""
    import aegis

    runtime = aegis.Aegis(**options)
    artifact = runtime.load_file(BUILT / f"{name}.wasm")
    start = aegis.runtime.entry_point(artifact)

    def life() -> None:
        with runtime.sandbox(artifact, args=("hello",)) as sandbox:
            sandbox.call(start)

    with runtime.sandbox(artifact, args=("hello",)) as sandbox:
        sandbox.call(start)
        assert sandbox.stdout.startswith(b"hello") or options
    return life


def _reference(name: str, *, kept: bool, each: bool = False) -> Callable[[], object]:
    """Return the same for wasmtime-py with its own WASI; ``kept``: keep the output; ``each``: use a new linker each
    time.
    """
    wasmtime, engine = native_engine()
    from wasmtime import component as native

    of_components = name != "hello"
    made: Any = native.Component if of_components else wasmtime.Module

    def linker_with_wasi() -> Any:
        made: Any = (native.Linker if of_components else wasmtime.Linker)(engine)
        (made.add_wasip2 if of_components else made.define_wasi)()
        return made

    linker = linker_with_wasi()
    guest = made.from_file(engine, str(BUILT / f"{name}.wasm"))
    folder = tempfile.TemporaryDirectory(dir=SHARED if SHARED.exists() else None)
    output = Path(folder.name, "output")
    exports = list(guest.type.exports(engine)) if of_components else []
    command = next((e for e in exports if "wasi:cli/run" in str(e)), "")

    def life() -> None:
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["hello"]
        through = linker_with_wasi() if each else linker
        if kept:
            wasi.stdout_file = str(output)
        with wasmtime.Store(engine) as store:
            store.set_wasi(wasi)
            instance = through.instantiate(store, guest)
            if of_components:
                outer = instance.get_export_index(store, str(command))
                instance.get_func(store, instance.get_export_index(store, "run", outer))(store)
            else:
                instance.exports(store)["_start"](store)
        if kept:
            output.read_bytes()

    life.folder = folder  # type: ignore[attr-defined] - which lives as long
    return life


def _programs(where: str, rounds: int) -> list[Row]:
    import aegis

    rows = []
    for name, what, gate in (("hello", "core", 4.0), ("hello-component", "component", 2.0)):
        silent = aegis.StdioCapability(stdout="discard")
        measured, quiet, kept, dropped, whole = _turns(
            rounds, (_measured(name), 300), (_measured(name, stdio=silent), 300), (_reference(name, kept=True), 100),
            (_reference(name, kept=False), 100), (_reference(name, kept=True, each=True), 100),
        )  # fmt: skip
        row = f"WASI hello from C, {what}: create + run + close"
        rows.append(_faster(f"{row}{where}", measured, kept, None if where else gate))
        rows.append(_faster(f"{row}, against a linker each{where}", measured, whole, None))
        rows.append(_faster(f"{row}, output discarded{where}", quiet, dropped, None))
    return rows


def _python(rounds: int) -> list[Row]:
    if not (BUILT / "py-hello.wasm").exists():
        return []
    measured, reference = _turns(rounds, (_measured("py-hello"), 10), (_reference("py-hello", kept=True), 10))
    return [_faster("componentize-py: create + run + close", measured, reference, None)]


# -- density ---------------------------------------------------------------------------------------


def density(rounds: int) -> list[Row]:
    """The memory of live sandboxes, per sandbox beyond the first: after creation, and after a run.

    After a run, a sandbox holds the pages that the guest wrote, four to six of 4 KiB for the C hello.
    """
    rows = []
    for name, what, most in (("hello", "the C hello", 10), ("hello-component", "the C hello as a component", 20)):
        for state in ("created", _RUN):
            # In a separate process, which does not reuse memory freed by an earlier measurement.
            words = [sys.executable, __file__, name, state]
            size = float(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
            label = f"a live sandbox of {what}, {state}, of {LIVE:,}"
            ratio = size / (most << 10)
            rows.append(Row(label, size, most << 10, ratio, f"<= {most} KiB", ratio <= 1, "KiB"))
    return rows


def _live(name: str, runs: bool) -> float:
    import aegis

    runtime = aegis.Aegis()
    artifact = runtime.load_file(BUILT / f"{name}.wasm")
    start = aegis.runtime.entry_point(artifact)

    def make() -> Any:
        sandbox = runtime.sandbox(artifact, args=("hello",))
        if runs:
            sandbox.call(start)
        return sandbox

    first = [make() for _ in range(3)]
    gc.collect()
    before = _resident()
    live = [make() for _ in range(LIVE)]
    gc.collect()
    size = (_resident() - before) / LIVE
    for sandbox in (*live, *first):
        sandbox.close()
    return size


def _resident() -> int:
    """Return the resident bytes of this process, shared pages in proportion."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


PARTS = (sandboxes, density)


def _main(name: str, state: str) -> None:
    """Print the size of a live sandbox, measured where its guest runs directly."""
    sys.path[:0] = [str(ROOT)]
    threading.stack_size(16 << 20)
    worker = threading.Thread(target=lambda: print(_live(name, state == _RUN)))
    worker.start()
    worker.join()


if __name__ == "__main__":
    _main(*sys.argv[1:])
