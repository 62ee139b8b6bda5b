"""Every attacker, in process: the documented ending, in time; the host survives without leaks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, ClockCapability, FilesystemCapability, LoggingCapability, Outcome, StdioCapability
from aegis.errors import AegisError
from tests.guests import trees
from tests.guests.catalogue import source

NO_FUEL: dict[str, Any] = {"fuel": None, "timeout": "300ms"}
SYSTEM = ClockCapability.parse("system")


def run(name: str, function: str = "_start", *args: int, imports: Any = None, **policy: Any) -> Outcome:
    """Run a hostile guest and return its outcome, including instantiation."""
    runtime = Aegis(pooled=False, cache=False, **policy)
    module = runtime.load_file(source(f"hostile/{name}"))
    try:
        with runtime.sandbox(module, imports=imports, args=("guest",)) as sandbox:
            return sandbox.run(function, *args)
    except AegisError as error:
        return Outcome.from_error(error)


ENDINGS: list[tuple[str, str, dict[str, Any], str, int]] = [
    ("spin", "_start", NO_FUEL, "timeout", 124),
    ("spin", "_start", {"fuel": 10_000}, "out-of-fuel", 152),
    ("spin-in-start", "_start", NO_FUEL, "timeout", 124),
    ("spin-in-start", "_start", {"fuel": 10_000}, "out-of-fuel", 152),
    ("sleep-hour", "_start", {"clock": SYSTEM, "timeout": "200ms"}, "timeout", 124),
    ("sleep-realtime-abs", "_start", {"clock": SYSTEM, "timeout": "200ms"}, "timeout", 124),
    ("host-call-flood", "_start", {"host_calls": 1000}, "quota-exceeded", 153),
    ("host-call-flood", "_start", {**NO_FUEL, "host_calls": None}, "timeout", 124),
    ("memory-initial", "_start", {}, "memory-exceeded", 137),
    ("memory-grown", "_start", {}, "memory-exceeded", 137),
    ("memory-many", "_start", {}, "memory-exceeded", 137),
    ("table-initial", "_start", {}, "memory-exceeded", 137),
    ("table-grown", "_start", {}, "memory-exceeded", 137),
    ("deep-recursion", "_start", {}, "stack-exhausted", 134),
    ("stdout-flood", "_start", {"fuel": None}, "output-exceeded", 153),
    ("stderr-flood", "_start", {"fuel": None}, "output-exceeded", 153),
    ("random-4gib", "_start", {"fuel": None, "host_bytes": "64MiB"}, "quota-exceeded", 153),
    ("log-flood", "_start", {"fuel": None, "host_calls": 5000}, "quota-exceeded", 153),
    ("escape-codes", "_start", {}, "trap", 134),
    ("exit-in-start", "_start", {}, "exited", 0),
    ("wasi-unstable", "_start", {}, "refused", 126),
    ("import-codes", "_start", {}, "refused", 126),
    ("exit-zero", "_start", {"fuel": None}, "output-exceeded", 153),
    ("exit-zero", "quota", {"fuel": None, "host_bytes": "64MiB"}, "quota-exceeded", 153),
    ("exit-zero", "fuel", {"fuel": 10_000}, "out-of-fuel", 152),
    ("exit-zero", "sleep", {"clock": SYSTEM, "timeout": "200ms"}, "timeout", 124),
    ("bad-pointers", "_start", {}, "returned", 0),
    ("bad-utf8", "_start", {}, "returned", 0),
]


@pytest.mark.parametrize(("name", "function", "policy", "status", "code"), ENDINGS)
def test_each_attack_ends_as_documented(
    name: str, function: str, policy: dict[str, Any], status: str, code: int
) -> None:
    before = time.process_time()
    outcome = run(name, function, **policy)
    assert (outcome.status, outcome.exit_code) == (status, code), outcome.error
    assert time.process_time() - before < 10  # processor seconds of this process, which do not depend on the load
    assert "\x1b" not in str(outcome.error)


@pytest.mark.parametrize("name", ["sleep-hour", "sleep-realtime-abs"])
def test_a_virtual_hour_takes_no_time(name: str) -> None:
    before = time.process_time()
    assert run(name).ok
    assert time.process_time() - before < 5


def test_the_error_distinguishes_initial_from_grown_memory() -> None:
    initial, grown = run("memory-initial").error, run("memory-grown").error
    assert getattr(initial, "phase", None) == "initial"
    assert getattr(grown, "phase", None) == "grown"
    assert getattr(grown, "used", None) == 64 << 20


def test_several_memories_share_one_limit() -> None:
    assert run("memory-many").status == "memory-exceeded"
    assert run("memory-many/memory-many-large", memory="64MiB").status == "memory-exceeded"


def test_a_guest_that_handles_a_refused_growth_continues() -> None:
    assert run("memory-grown", "polite").value == 1024
    assert run("table-grown", "polite").value == 10_000


def test_recursion_through_the_host_ends_in_one_stack_or_the_other() -> None:
    runtime = Aegis(pooled=False)
    module = runtime.load_file(source("hostile/recursion-through-host"))
    box: list[Any] = []

    def again(*args: int) -> Any:
        return box[0].call("run")

    with runtime.sandbox(module, imports={"env": {"again": again}}) as sandbox:
        box.append(sandbox)
        outcome = sandbox.run("run")
        depth = sandbox.globals["depth"]
    assert outcome.status in ("stack-exhausted", "host-error"), outcome.error
    assert depth > 10


def test_an_exception_of_the_host_ends_the_guest_at_once() -> None:
    class Boom(Exception):
        pass

    def boom(*args: int) -> int:
        raise Boom("at the boundary")

    runtime = Aegis(pooled=False)
    module = runtime.load_file(source("hostile/unwind-host"))
    for export in ("run", "run_deep"):
        with runtime.sandbox(module, imports={"env": {"raise": boom, "value": boom}}) as sandbox:
            outcome = sandbox.run(export)
            assert outcome.status == "host-error"
            assert outcome.error is not None
            assert isinstance(outcome.error.__cause__, Boom)
            assert outcome.error.__cause__.__traceback__ is not None
            assert sandbox.globals["flag"] == 0


# -- files ----------------------------------------------------------------------------------------


def reading(folder: Path, guest: str = "/") -> FilesystemCapability:
    return FilesystemCapability.read_only(f"{folder}::{guest}")


def writing(folder: Path, guest: str = "/") -> FilesystemCapability:
    return FilesystemCapability.read_write(f"{folder}::{guest}")


@pytest.mark.parametrize("grant", [reading, writing])
@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("escape-dotdot", trees.plain),
        ("escape-absolute", trees.plain),
        ("escape-proc-self", trees.with_links),
        ("escape-symlink", trees.with_links),
    ],
)
def test_no_path_leads_out(
    tmp_path: Path, name: str, tree: Callable[[Path], Path], grant: Callable[[Path], FilesystemCapability]
) -> None:
    inside = tree(tmp_path)
    outcome = run(name, filesystem=grant(inside))
    assert outcome.ok, outcome.stdout
    assert outcome.stdout.rstrip().endswith(b"contained")
    assert trees.SECRET.strip() not in outcome.stdout


def test_a_link_that_is_swapped_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    inside = trees.with_swap(tmp_path)
    with trees.swapping(inside):
        outcome = run("escape-symlink-swap", filesystem=reading(inside), fuel=None)
    assert outcome.exit_code in (0, 153), outcome.stdout
    assert trees.SECRET.strip() not in outcome.stdout
    assert outcome.exit_code != 66


@pytest.mark.parametrize("name", ["escape-hardlink", "escape-rename"])
def test_nothing_crosses_from_one_grant_to_another(tmp_path: Path, name: str) -> None:
    read_only, read_write = trees.two(tmp_path)
    before = trees.contents(read_only)
    outcome = run(name, filesystem=reading(read_only, "/ro") + writing(read_write, "/rw"))
    assert outcome.ok, outcome.stdout
    assert trees.contents(read_only) == before


def test_read_only_files_are_not_truncated(tmp_path: Path) -> None:
    inside = trees.plain(tmp_path)
    (inside / "file.txt").write_text("as it was")
    before = trees.contents(inside)
    outcome = run("escape-truncate", filesystem=reading(inside))
    assert outcome.stdout.rstrip().endswith(b"unaltered"), outcome.stdout
    assert trees.contents(inside) == before
    run("escape-truncate", filesystem=writing(inside))
    assert trees.contents(inside) != before, "with the grant the same guest can"


def test_a_fifo_neither_hangs_nor_opens(tmp_path: Path) -> None:
    inside = trees.with_fifo(tmp_path)
    outcome = run("fifo", filesystem=reading(inside), timeout="5s")
    assert outcome.ok, outcome.stdout
    assert outcome.stdout.rstrip().endswith(b"done")


def test_open_files_are_bounded(tmp_path: Path) -> None:
    inside = trees.plain(tmp_path)
    outcome = run("fd-exhaustion", filesystem=reading(inside))
    assert b"opened 64, then error 33" in outcome.stdout


def test_the_disk_is_filled_no_further_than_allowed(tmp_path: Path) -> None:
    inside = trees.plain(tmp_path)
    outcome = run("disk-filling", filesystem=writing(inside), disk_written="1MiB", fuel=None)
    assert outcome.status == "quota-exceeded"
    assert sum(p.stat().st_size for p in inside.rglob("*") if p.is_file()) < 2 << 20
    assert run("disk-filling", filesystem=reading(inside), fuel=None).exit_code == 1


def test_log_lines_are_escaped_and_filtered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(1, "aegis.sandbox.component"):
        run("log-flood", "once", logging=LoggingCapability.development())
        kept = len(caplog.records)
        run("log-flood", "once")
    assert kept > 0
    assert len(caplog.records) == kept, "without the grant nothing is logged"
    assert all("\x1b" not in record.getMessage() for record in caplog.records)


def test_a_silent_input_is_not_waited_for_beyond_the_deadline() -> None:
    end, other = os.pipe()
    try:
        outcome = run("stdin-wait", stdio=StdioCapability(stdin=f"file:/dev/fd/{end}"), timeout="200ms", clock=SYSTEM)
    finally:
        os.close(end)
        os.close(other)
    assert outcome.status == "timeout"
    assert run("stdin-wait").ok


# -- after many of them ---------------------------------------------------------------------------

HARMLESS = [e for e in ENDINGS if e[3] != "timeout"]
SLOW = {("random-4gib", "_start"), ("exit-zero", "quota")} if "AEGIS_SOAK" not in os.environ else set()
"""Attackers that compute for a second; the tests above run each once."""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_nothing_is_left_behind() -> None:
    """100 runs of the set with AEGIS_SOAK=100; a few in every test run."""
    import gc
    import threading

    def measure() -> tuple[int, int, int]:
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(os.listdir("/proc/self/fd")), threading.active_count(), resident

    def once() -> None:
        for name, function, policy, status, _ in HARMLESS:
            if (name, function) in SLOW:
                continue
            # None of these ends by its deadline, however slowly it runs.
            assert run(name, function, **{"timeout": None, **policy}).status == status, (name, function)

    once()
    descriptors, threads, resident = measure()
    for _ in range(int(os.environ.get("AEGIS_SOAK", "1"))):
        once()
    after = measure()
    assert after[0] <= descriptors
    assert after[1] <= threads + 1
    assert after[2] - resident < 32 << 20
