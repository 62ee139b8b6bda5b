"""The guests behave as their READMEs state, under wasmtime's own WASI.

This tests the guests, not Aegis: the tests of Aegis can rely on an escape that is contained here, and that succeeds
when the grant is wider.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import wasmtime

from tests.guests import trees
from tests.guests.catalogue import GUESTS, ROOT, built, hostile, source
from tests.guests.native import Loaded, Preopen, run_native

ESCAPED = 66


# --- the small ones in WAT ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("add", (2, 3), 5),
        ("add", (2**31 - 1, 1), -(2**31)),
        ("add64", (2**40, 1), 2**40 + 1),
        ("addf", (0.1, 0.2), 0.1 + 0.2),
        ("addf32", (0.5, 0.25), 0.75),
        ("divide", (-7, 2), -3),
        ("swap", (1, 2), [2, 1]),
    ],
)
def test_add(function: str, arguments: tuple[int | float, ...], expected: object) -> None:
    assert run_native(source("add"), *arguments, function=function).value == expected


def test_add_traps_on_division_by_zero() -> None:
    assert run_native(source("add"), 1, 0, function="divide").trap is not None


def test_hello_in_wat() -> None:
    assert run_native(source("hello")).stdout == b"hello, world\n"


def test_greet_and_logging_call_the_host() -> None:
    greeted: list[tuple[int, int]] = []
    run_native(source("greet"), function="greet", imports={("env", "log"): lambda p, n: greeted.append((p, n))})
    assert greeted == [(4096, 12)]
    logged: list[tuple[int, int, int]] = []
    run_native(source("logging"), imports={("aegis", "log"): lambda *call: logged.append(call)})
    assert logged == [(0, 0, 5), (1, 8, 5), (2, 16, 4), (3, 24, 4), (4, 32, 5), (5, 40, 8)]


def test_echo_returns_upper_case() -> None:
    echo, text = Loaded(source("echo")), "grüezi".encode()
    at = echo("allocate", len(text))
    echo.memory.write(echo.store, text, at)
    start, size = echo("echo", at, len(text))
    assert echo.memory.read(echo.store, start, start + size) == bytearray("GRüEZI".encode())
    assert echo("allocate", 2 << 20) == 0
    assert echo("allocate", -1) == 0


def test_counter_keeps_state() -> None:
    counter = Loaded(source("counter"))
    assert [counter("increment") for _ in range(3)] == [1, 2, 3]
    assert counter("stored") == 3
    assert counter("grow", 3) == 1
    assert counter("grow", 1) == -1


# --- wordcount ------------------------------------------------------------------------------------


def expected_count(data: bytes) -> str:
    return f"{data.count(10)} {len(data.split())} {len(data)}"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"one two\nthree\tfour\x0bfive\x0csix\r\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(os.urandom(200_000))
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


def test_wordcount_of_a_file(texts: Path) -> None:
    run = run_native(source("wordcount"), args=["a.txt"], preopens=[Preopen(texts)])
    assert (run.exit_code, run.stdout) == (0, b"2 6 29 a.txt\n")


def test_wordcount_of_several(texts: Path) -> None:
    run = run_native(source("wordcount"), args=["./a.txt", "sub/b.txt", "/empty"], preopens=[Preopen(texts)])
    files = [(texts / name).read_bytes() for name in ("a.txt", "sub/b.txt", "empty")]
    counts = [[int(n) for n in expected_count(data).split()] for data in files]
    total = " ".join(str(sum(column)) for column in zip(*counts, strict=True))
    assert run.lines[1] == f"{expected_count(files[1])} sub/b.txt"
    assert run.lines[3] == f"{total} total"


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
def test_wordcount_of_stdin_across_its_buffer(size: int) -> None:
    data = (b"ab cd\n" * (size // 6 + 1))[:size]
    run = run_native(source("wordcount"), stdin=data)
    assert run.stdout.decode() == expected_count(data) + "\n"


def test_wordcount_chooses_the_longest_preopen(texts: Path) -> None:
    preopens = [Preopen(texts, "/data/"), Preopen(texts / "sub", "/data/sub"), Preopen(texts / "sub", "./x")]
    names = ["/data/a.txt", "/data/sub/b.txt", "data/sub/b.txt", "x/b.txt", "/x/b.txt"]
    run = run_native(source("wordcount"), args=names, preopens=preopens)
    assert [line.split()[-1] for line in run.lines] == [*names, "total"]
    assert run.exit_code == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/data/nope", "no such file"),
        ("/dat/a.txt", "no grant covers this path"),
        ("/database/a.txt", "no grant covers this path"),
        ("/data/../a.txt", "permission denied"),
    ],
)
def test_wordcount_reports_errors_and_continues(texts: Path, name: str, reason: str) -> None:
    run = run_native(source("wordcount"), args=[name, "/data/a.txt"], preopens=[Preopen(texts, "/data")])
    assert run.exit_code == 1
    assert run.stderr.decode() == f"wordcount: {name}: {reason}\n"
    assert run.lines == ["2 6 29 /data/a.txt", "2 6 29 total"]


def test_wordcount_takes_many_long_arguments(texts: Path) -> None:
    names = ["./" * 500 + "a.txt"] * 300
    run = run_native(source("wordcount"), args=names, preopens=[Preopen(texts)])
    assert run.lines[-1] == "600 1800 8700 total"


# --- the programs in C ----------------------------------------------------------------------------


def test_hello_greets_as_its_environment_says() -> None:
    run = run_native(built("hello"), args=["Ada", "Grace"], env={"GREETING": "salve"})
    assert run.lines == ["salve, Ada", "salve, Grace"]
    assert run_native(built("hello")).stdout == b"hello, world\n"


def test_cat_copies_and_needs_write_access_for_its_output(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "in").write_bytes(data)
    assert run_native(built("cat"), args=["in"], preopens=[Preopen(tmp_path)]).stdout == data
    assert run_native(built("cat"), stdin=data).stdout == data
    denied = run_native(built("cat"), args=["-o", "out", "in"], preopens=[Preopen(tmp_path)])
    assert denied.exit_code == 1
    assert denied.stderr.startswith(b"cat: out: ")
    granted = run_native(built("cat"), args=["-o", "out", "in"], preopens=[Preopen(tmp_path, write=True)])
    assert granted.exit_code == 0
    assert (tmp_path / "out").read_bytes() == data


def test_ls_lists_recursively(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "b" / "deep" / "file").write_bytes(b"12345")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "c").symlink_to("b/deep")
    for i in range(300):
        (tmp_path / "b" / f"{i:03}-{'x' * 60}").touch()
    run = run_native(built("ls"), preopens=[Preopen(tmp_path)])
    assert run.lines[:2] == ["f         0 a", "d         - b/"]
    assert run.lines[-3:] == ["d         - b/deep/", "f         5 b/deep/file", "l         - c -> b/deep"]
    assert len(run.lines) == 305
    missing = run_native(built("ls"), args=["nope"], preopens=[Preopen(tmp_path)])
    assert (missing.exit_code, missing.stdout) == (1, b"")


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 119, 120, 200_000])
def test_sha256_agrees_with_hashlib(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert run_native(built("sha256"), stdin=data).lines == [f"{hashlib.sha256(data).hexdigest()}  -"]


def test_sha256_of_files() -> None:
    digest = hashlib.sha256((GUESTS / "README.md").read_bytes()).hexdigest()
    run = run_native(built("sha256"), args=["README.md", "nope"], preopens=[Preopen(GUESTS)])
    assert (run.exit_code, run.lines) == (1, [f"{digest}  README.md"])


@pytest.mark.parametrize("name", sorted(path.stem for path in (GUESTS / "interp" / "tests").glob("*.fs")))
def test_interp_runs_its_tests(name: str) -> None:
    tests = GUESTS / "interp" / "tests"
    errors = tests / f"{name}.err"
    run = run_native(built("interp"), args=[f"{name}.fs"], preopens=[Preopen(tests)])
    assert run.stdout.decode() == (tests / f"{name}.out").read_text()
    assert run.stderr.decode() == (errors.read_text() if errors.exists() else "")
    assert run.exit_code == errors.exists()


def test_interp_reads_its_program_from_stdin() -> None:
    assert run_native(built("interp"), stdin=b": square dup * ; 12 square . cr").stdout == b"144 \n"


@pytest.mark.usual(every=3)
@pytest.mark.parametrize(
    "data",
    [b"", b"a", b"abcabcabcabc" * 10, bytes(100_000), os.urandom(5000), (ROOT / "guests/interp/interp.c").read_bytes()],
    ids=["empty", "one", "repeated", "zeros", "random", "text"],
)
def test_lz_restores_its_compressed_output(data: bytes) -> None:
    packed = run_native(built("lz"), args=["c"], stdin=data)
    assert run_native(built("lz"), args=["d"], stdin=packed.stdout).stdout == data
    assert len(packed.stdout) <= 8 + len(data) + (len(data) + 7) // 8


def test_lz_refuses_foreign_input() -> None:
    packed = run_native(built("lz"), args=["c"], stdin=b"some text, some text, some text").stdout
    for damaged in (
        b"",
        b"PK\3\4" + packed[4:],
        packed[:-1],
        packed + b"\0",
        packed[:8] + b"\xff\xff\xff" + packed[11:],
    ):
        run = run_native(built("lz"), args=["d"], stdin=damaged)
        assert (run.exit_code, run.stdout) == (1, b"")
    assert run_native(built("lz"), args=["x"]).exit_code == 2


def test_nbody_and_sieve_print_the_documented_output() -> None:
    assert run_native(built("nbody"), args=["1000"]).lines == ["-0.004286549", "-0.004286556"]
    assert run_native(built("sieve"), args=["1000000"]).lines == ["78498 primes below 1000000, the last is 999983"]
    assert run_native(built("sieve"), args=["10000001"]).exit_code == 1


@pytest.mark.parametrize(
    ("function", "n", "expected"),
    [
        ("sha256_bench", 1024, -1057291257),
        ("sieve", 1000000, 78498),
        ("lz_bench", 1 << 20, 591807),
        ("nbody", 1000, pytest.approx(-0.0042865561, rel=1e-7)),
    ],
)
def test_bench(function: str, n: int, expected: object) -> None:
    assert run_native(built("bench"), n, function=function).value == expected


def test_bench_imports_nothing() -> None:
    assert wasmtime.Module.from_file(wasmtime.Engine(), str(built("bench"))).imports == []


def test_reactor_is_initialised_once() -> None:
    assert run_native(built("reactor"), function="initialised").value == 1
    assert run_native(built("reactor"), 7, function="say").stdout == b"number 7\n"


# --- the hostile ones -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", hostile(), ids=lambda path: path.stem)
def test_every_attack_is_valid(path: Path) -> None:
    wasmtime.Module.from_file(wasmtime.Engine(), str(path))


@pytest.mark.usual("spin")
@pytest.mark.parametrize("name", ["spin", "spin-in-start"])
def test_spin_uses_up_its_fuel(name: str) -> None:
    assert "fuel" in str(run_native(source(f"hostile/{name}")).trap)


def test_deep_recursion_is_deep() -> None:
    assert "call stack exhausted" in str(run_native(source("hostile/deep-recursion")).trap)
    assert run_native(source("hostile/deep-recursion"), 100, function="down").value == 100


@pytest.mark.parametrize(
    ("name", "linked"),
    [("escape-dotdot", False), ("escape-absolute", False), ("escape-proc-self", False), ("escape-symlink", True)],
)
def test_escapes_are_contained(tmp_path: Path, name: str, linked: bool) -> None:
    inside = (trees.with_links if linked else trees.plain)(tmp_path)
    outside = {key: value for key, value in trees.contents(tmp_path).items() if not key.startswith("inside/")}
    run = run_native(source(f"hostile/{name}"), preopens=[Preopen(inside, write=True)])
    assert (run.exit_code, run.lines[0], run.lines[-1]) == (0, "inside.txt 0", "contained")
    after = trees.contents(tmp_path)
    assert {key: value for key, value in after.items() if not key.startswith("inside/")} == outside
    assert after["inside/inside.txt"] == b"harmless\n"
    ungranted = run_native(source(f"hostile/{name}"))
    assert (ungranted.exit_code, ungranted.lines[0]) == (0, "inside.txt 8")


def test_symlink_swap_is_contained(tmp_path: Path) -> None:
    inside = trees.with_swap(tmp_path)
    with trees.swapping(inside):
        run = run_native(source("hostile/escape-symlink-swap"), preopens=[Preopen(inside)])
    assert run.exit_code == 0
    assert run.stdout.startswith(b"contained, opened ")


def test_symlink_swap_sees_the_secret_when_it_is_granted(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "swap").mkdir(parents=True)
    (inside / "swap" / "secret.txt").write_bytes(trees.SECRET)
    run = run_native(source("hostile/escape-symlink-swap"), preopens=[Preopen(inside)])
    assert (run.exit_code, run.stdout) == (ESCAPED, b"ESCAPED\n")


@pytest.mark.parametrize("name", ["escape-hardlink", "escape-rename"])
def test_attacks_across_permissions(tmp_path: Path, name: str) -> None:
    ro, rw = trees.two(tmp_path)
    before = trees.contents(tmp_path)
    run = run_native(source(f"hostile/{name}"), preopens=[Preopen(ro, "/ro"), Preopen(rw, "/rw", True)])
    assert (run.exit_code, run.lines[-1]) == (0, "contained")
    assert trees.contents(tmp_path) == before
    wider = run_native(source(f"hostile/{name}"), preopens=[Preopen(ro, "/ro", True), Preopen(rw, "/rw", True)])
    assert (wider.exit_code, wider.lines[0]) == (ESCAPED, "ro to rw 0")


def test_truncate_changes_only_writable_files(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"as it was")
    run = run_native(source("hostile/escape-truncate"), preopens=[Preopen(tmp_path)])
    assert (run.exit_code, run.lines[-1]) == (0, "unaltered")
    assert (tmp_path / "file.txt").read_bytes() == b"as it was"
    wider = run_native(source("hostile/escape-truncate"), preopens=[Preopen(tmp_path, write=True)])
    assert wider.exit_code == ESCAPED


def test_bad_utf8_is_refused(tmp_path: Path) -> None:
    run = run_native(source("hostile/bad-utf8"), preopens=[Preopen(tmp_path, write=True)])
    assert (run.exit_code, run.lines[-1]) == (0, "refused")
    assert list(tmp_path.iterdir()) == []


def test_long_paths_are_refused(tmp_path: Path) -> None:
    run = run_native(source("hostile/long-path"), preopens=[Preopen(tmp_path)])
    assert run.lines == ["one name: 37 37 37", "many names: 44 37 37", "many dots: 0 37 37", "many slashes: 63 37 37"]


def test_bad_pointers_makes_all_its_calls() -> None:
    """Wasmtime's WASI traps at the first bad pointer, so stubs replace it here."""
    path = source("hostile/bad-pointers")
    module = wasmtime.Module.from_file(wasmtime.Engine(), str(path))
    calls: Counter[str] = Counter()

    def stub(name: str, *_: int) -> int:
        calls[name] += 1
        return 21

    names = [item.name or "" for item in module.imports]
    run = run_native(path, imports={("wasi_snapshot_preview1", name): partial(stub, name) for name in names})
    assert run.exit_code == 0
    assert len(names) == 32
    assert min(calls[name] for name in names) == 24
    assert calls["fd_pread"] == 24 + 6


def test_disk_filling_needs_write_access(tmp_path: Path) -> None:
    run = run_native(source("hostile/disk-filling"), preopens=[Preopen(tmp_path)])
    assert (run.exit_code, run.stdout) == (1, b"error 63\n")
    assert run_native(source("hostile/disk-filling")).stdout == b"error 8\n"


def test_fd_exhaustion_without_a_grant() -> None:
    assert run_native(source("hostile/fd-exhaustion")).stdout == b"opened 0, then error 8\n"


def test_stdin_wait_ends_when_stdin_is_empty() -> None:
    assert run_native(source("hostile/stdin-wait")).stdout == b"reading 0\n"
    assert run_native(source("hostile/stdin-wait"), function="poll").stdout == b"polling 0\n"


def test_a_guest_that_checks_growth_stops_at_the_limit() -> None:
    memory = Loaded(source("hostile/memory-grown"))
    memory.store.set_limits(memory_size=64 << 20)
    assert memory("polite") == 1024
    table = Loaded(source("hostile/table-grown"))
    table.store.set_limits(table_elements=10_000)
    assert table("polite") == 10_000


def test_unwind_host_never_continues() -> None:
    def refuse() -> int:
        raise RuntimeError("no")

    guest = Loaded(source("hostile/unwind-host"), {("env", "raise"): refuse, ("env", "value"): refuse})
    for name in ("run", "run_deep"):
        with pytest.raises(RuntimeError, match="no"):
            guest(name)
        assert guest("reached") == 0


def test_the_compile_bomb_is_valid_and_grows_beyond_its_size() -> None:
    script = GUESTS / "hostile" / "compile-bomb" / "make.py"
    data = subprocess.run([sys.executable, str(script)], capture_output=True, check=True).stdout
    assert len(data) < 44_000
    wasmtime.Module.validate(wasmtime.Engine(), data)


@pytest.mark.parametrize("path", sorted((GUESTS / "hostile" / "proposals").glob("*.wat")), ids=lambda path: path.stem)
def test_every_proposal_is_text_that_parses(path: Path) -> None:
    assert wasmtime.wat2wasm(path.read_text())[:4] == b"\0asm"
