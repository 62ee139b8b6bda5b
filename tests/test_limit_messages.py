"""Every limit's error states what happened, the used and the allowed amount, and the option that raises the limit.

Oracle: the form ``… exceeded (used/limit …) …: raise it with KEYWORD or --OPTION …``, with the numbers of the error's
own fields. Each limit is exceeded by a guest, or in the object that enforces it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

import aegis
from aegis import Aegis, FilesystemCapability
from aegis.cli.click_options import made
from aegis.cli.options import limits as limit_options
from aegis.engine.threads.ticker import TICK
from aegis.errors import AegisError, ArtifactError, DeadlineExceeded, LimitExceeded
from aegis.host.host_quota import HostQuota
from aegis.host.net.network import Network
from aegis.isolation.parent.compiling import too_large, too_long
from aegis.isolation.parent.handles import ParentHandles
from aegis.isolation.protocol.errors import out_of_memory
from aegis.limits import LIMIT_NAMES, Limits, exceeded, flag_of, format_count, format_seconds, parse_limit
from aegis.wit.types import Resource
from tests.host.http.client import Client
from tests.host.preview2.guest import Guest
from tests.isolation.isolated import PLACES, only_where_there_are_workers, runtime

IN_BAND = {"open_files", "sockets", "resolver_answers", "http_requests"}
"""Limits that a guest sees as an error code, or as a shorter result: no exception is raised."""

HOST = """(module (import "env" "f" (func $f (param i32))) (memory (export "memory") 2)
  (func (export "run") (call $f (i32.const 100)) (call $f (i32.const 100))))"""
SPIN = '(module (func (export "run") (loop $again (br $again))))'
DEEP = '(module (func $run (export "run") (result i32) (i32.add (i32.const 1) (call $run))))'
GROWS = """(module (memory (export "memory") 1)
  (func (export "run") (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))"""
TABLE = """(module (table (export "t") 10 funcref)
  (func (export "run") (if (i32.eq (table.grow (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))
    (drop (table.get (i32.const 99)))))"""
WRITES = """(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\0a\\00\\00\\00")
  (func (export "run") (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
OPENS = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\0a\\00\\00\\00f")
  (func (export "run")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 1) (i64.const 64) (i64.const 0)
      (i32.const 0) (i32.const 12)) (then unreachable))
    (drop (call $write (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 20)))))"""
NESTED = "(module (func (block (block (block)))))"


@aegis.with_caller
def reads(guest: aegis.Caller, length: int) -> None:
    guest.read(0, length)


GUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fuel": (SPIN, {"fuel": 1000}),
    "timeout": (SPIN, {"fuel": None, "timeout": "50ms"}),
    "stack": (DEEP, {}),
    "memory": (GROWS, {"memory": "64KiB"}),
    "memory of a component": (
        "(component (core module $m (memory 2)) (core instance (instantiate $m)))", {"memory": 1},
    ),
    "memory at the start": ("(module (memory 2))", {"memory": "64KiB"}),
    "memories that could grow": ("(module (memory 1) (memory 1) (memory 1 1))", {"memory": "128KiB"}),
    "table_elements": (TABLE, {"table_elements": 10}),
    "table_elements at the start": ("(module (table 11 funcref))", {"table_elements": 10}),
    "tables that could grow": (
        "(module (table 1 funcref) (table 1 funcref) (table 9 9 funcref))", {"table_elements": 10},
    ),
    "memories": ("(module (memory 1) (memory 1) (memory 1))", {"memories": 2}),
    "tables": ("(module (table 1 funcref) (table 1 funcref))", {"tables": 1}),
    "module_size": ('(module (func (export "a longer name than that")))', {"module_size": 30}),
    "functions": ("(module (func) (func))", {"functions": 1}),
    "function_size": (NESTED, {"function_size": 3}),
    "locals": ("(module (func (local i32 i64)))", {"locals": 1}),
    "nesting": (NESTED, {"nesting": 2}),
    "complexity": (NESTED, {"complexity": 20}),
    "complexity of many": ("(module " + "(func) " * 200 + ")", {"complexity": 2000}),
    "stdout": (WRITES.format(fd=1), {"stdout": 9}),
    "stderr": (WRITES.format(fd=2), {"stderr": 9}),
    "disk_written": (OPENS, {"disk_written": 9}),
    "host_calls": (HOST, {"host_calls": 1}),
    "host_bytes": (HOST, {"host_bytes": 150}),
    "value_bytes": (HOST, {"value_bytes": 99}),
}  # fmt: skip


def held() -> None:
    HostQuota(100).reserve().add(101)


def connections() -> None:
    network = Network(None, Limits(connections=1), None)  # type: ignore[arg-type]
    network.connecting()
    network.connecting()


def handles() -> None:
    parent = ParentHandles(1, 1, lambda key: None)  # type: ignore[arg-type, return-value]
    for _ in range(2):
        parent.number(object(), Resource("thing", 0), own=True)


def fields(**limits: Any) -> Callable[[], None]:
    def call() -> None:
        with Client(**limits) as client:
            client.types.Fields.from_list([("name", b"value"), ("other", b"value")])

    return call


def random() -> None:
    with Guest(limits={"value_bytes": 10}) as guest:
        guest.of("wasi:random/random").get_random_bytes(11)


def instances() -> None:
    made = "(core module $m) " + "(core instance (instantiate $m)) " * 2
    Aegis(cache=False, instances=1).load_wat(f"(component {made})")


def component_handles() -> None:
    text = """(component (type $r (resource (rep i32))) (core func $new (canon resource.new $r))
      (core module $m (import "" "new" (func $new (param i32) (result i32)))
        (func (export "run") (drop (call $new (i32.const 1))) (drop (call $new (i32.const 1)))))
      (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
      (func (export "run") (canon lift (core func $i "run"))))"""
    with (runtime := Aegis(cache=False, handles=1)).sandbox(runtime.load_wat(text)) as sandbox:
        sandbox.call("run")


def tasks() -> None:
    yields = "(result i32) (i32.const 1)"
    text = f"""(component
      (core module $m (func (export "run") {yields}) (func (export "again") (param i32 i32 i32) {yields}))
      (core instance $i (instantiate $m))
      (func (export "run") async (canon lift (core func $i "run") async (callback (core func $i "again")))))"""

    async def main() -> None:
        runtime = Aegis(cache=False, tasks=1)
        async with runtime.asandbox(runtime.load_wat(text)) as sandbox:
            endless = asyncio.create_task(sandbox.acall("run"))
            await asyncio.sleep(0)
            try:
                await sandbox.acall("run")
            finally:
                sandbox.cancel()
                await asyncio.wait([endless])
                endless.exception()

    asyncio.run(main())


KEEPERS: dict[str, Callable[[], None]] = {
    "value_bytes that are kept": held,
    "value_bytes of random bytes": random,
    "connections": connections,
    "network_bytes": lambda: Network(None, Limits(network_bytes=10), None).charge(11),  # type: ignore[arg-type]
    "handles": handles,
    "handles of a component": component_handles,
    "tasks": tasks,
    "instances": instances,
    "http_fields": fields(http_fields=1),
    "http_field_bytes": fields(http_field_bytes=15),
}


def limit_of(case: str) -> str:
    """Return the limit of a case: its first word, except for two."""
    if case.endswith("could grow"):
        return "memory" if case.startswith("memories") else "table_elements"
    return case.split()[0]


def check(error: AegisError, name: str) -> None:
    """Check the message of an error about the limit ``name``."""
    message = str(error)
    form = rf"[^()]*exceeded \(([^/()]+)/([^ ()]+)( s| ms)? [^()]*\)[^:]*: raise it with {name} or {flag_of(name)}\b.*"
    found = re.fullmatch(form, message)
    assert found is not None, message
    if not isinstance(error, LimitExceeded):
        assert isinstance(error, ArtifactError)  # rejected before compilation: it has no fields
        assert message.endswith(" if you trust its origin")
        return
    assert error.limit == name
    assert error.used is not None
    assert error.allowed is not None
    show = format_seconds if name == "timeout" else format_count
    assert f"({show(error.used)}/{show(error.allowed)} " in message


def how_it_ended(place: str, text: str, folder: Any, **limits: Any) -> AegisError:
    filesystem = FilesystemCapability.read_write(f"{folder}::/") if text is OPENS else FilesystemCapability()
    imports = {"env": {"f": reads}} if text is HOST else None
    with pytest.raises(AegisError) as caught, runtime(place, filesystem=filesystem, **limits) as made:
        made.sandbox(made.load_wat(text), imports=imports).call("run")
    return caught.value


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", GUESTS)
def test_an_exceeded_limit_is_reported_with_its_keyword_and_option(case: str, place: str, tmp_path: Any) -> None:
    text, limits = GUESTS[case]
    check(how_it_ended(place, text, tmp_path, **limits), limit_of(case))


ANSWERS = '(module (import "env" "f" (func $f (param i32))) (func (export "run") (call $f (i32.const 1))))'
STARTS = '(module (import "env" "f" (func $f (param i32))) (func $run (call $f (i32.const 1))) (start $run))'
ADDS = """(component (import "f" (func $f)) (core func $g (canon lower (func $f)))
  (core module $m (import "" "g" (func $g)) (func (export "run") (call $g)))
  (core instance $n (instantiate $m (with "" (instance (export "g" (func $g))))))
  (func (export "run") (canon lift (core func $n "run"))))"""


@only_where_there_are_workers
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", [ANSWERS, ADDS], ids=["module", "component"])
@pytest.mark.parametrize("waits", [False, True], ids=["returns", "waits"])
def test_a_host_call_that_ends_late_is_reported_with_the_time_that_it_took(place: str, text: str, waits: bool) -> None:
    """The host function moves the start of its call 1.5 s into the past, and the deadline with it."""

    def f(*_: Any) -> None:
        door = sandbox._run.door
        door.entered_at -= 1.5
        door.deadline -= 1.5
        if waits:
            door.wait(0)

    imports: Any = {"f": f} if text is ADDS else {"env": {"f": f}}
    made = runtime(place, fuel=None, timeout="1s")
    sandbox = made.sandbox(made.load_wat(text), imports=imports)
    with made, sandbox, pytest.raises(DeadlineExceeded) as caught:
        sandbox.call("run")
    check(caught.value, "timeout")
    assert 1.5 <= (caught.value.used or 0) < 10
    assert caught.value.allowed == 1


def test_a_late_host_call_of_a_start_function_is_reported_with_the_time_of_the_start() -> None:
    """The oracle is the same clock, read before the sandbox exists."""
    begun = time.monotonic()

    def f(x: int) -> None:
        entered = time.monotonic()
        while time.monotonic() < entered + 0.2:
            pass

    with runtime("in-process", timeout="50ms") as made, pytest.raises(DeadlineExceeded) as caught:
        made.sandbox(made.load_wat(STARTS), imports={"env": {"f": f}})
    assert 0.1 <= (caught.value.used or 0) <= time.monotonic() - begun + TICK


@pytest.mark.parametrize("case", KEEPERS)
def test_an_exceeded_host_limit_is_reported_with_its_keyword_and_option(case: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        KEEPERS[case]()
    check(caught.value, limit_of(case))


def test_every_limit_is_exceeded_here_or_reported_in_band() -> None:
    met = {limit_of(case) for case in (*GUESTS, *KEEPERS)}
    assert met | IN_BAND == set(LIMIT_NAMES)
    assert not met & IN_BAND


@pytest.mark.parametrize("name", sorted(set(LIMIT_NAMES) - IN_BAND))
def test_each_limit_that_is_raised_has_words(name: str) -> None:
    check(LimitExceeded(exceeded(name, 11, 10), limit=name, used=11, allowed=10), name)


def test_the_message_of_a_limit_says_it_in_one_form() -> None:
    assert exceeded("host_bytes", (1 << 30) + 1, 1 << 30) == (
        "host-byte limit exceeded (1,073,741,825/1,073,741,824 bytes in one call): "
        "raise it with host_bytes or --host-bytes"
    )
    assert exceeded("timeout", 30.0, 30.0, after=" in the host call env.f") == (
        "deadline exceeded (30 s/30 s in one call) in the host call env.f: raise it with timeout or --timeout"
    )
    assert exceeded("locals", 2, None, unit="locals in it", remedy=" if you trust it") == (
        "local limit exceeded (2/0 locals in it): raise it with locals or --locals if you trust it"
    )


@pytest.mark.parametrize(
    ("error", "keyword", "used"),
    [
        (out_of_memory(1000), "overhead", "(1,000/1,000 bytes)"),
        (too_large(1000, "the module"), "compile_memory", "(1,000/1,000 bytes)"),
        (too_long(2, "the module"), "compile_time", "(2 s/2 s of compiling)"),
    ],
)
def test_a_limit_of_isolation_is_reported_with_its_keyword(error: LimitExceeded, keyword: str, used: str) -> None:
    assert error.limit == keyword
    assert error.used == error.allowed is not None
    assert re.search(rf"exceeded {re.escape(used)}.*: raise it with {keyword} of isolation\b", str(error))


def test_the_options_of_the_command_are_those_that_errors_name() -> None:
    options = {option.names[0]: option.dest for option in limit_options()}
    assert options == {flag_of(name): f"limit_{name}" for name in LIMIT_NAMES}


def test_the_defaults_that_the_command_shows_are_those_of_the_library() -> None:
    helps = {name: made(option).help or "" for name, option in zip(LIMIT_NAMES, limit_options(), strict=True)}
    given = {name: text.rpartition("[")[2].rstrip("]") for name, text in helps.items()}
    shown = {name: None if text == "none" else parse_limit(name, text) for name, text in given.items()}
    assert shown == {name: getattr(Limits(), name) for name in LIMIT_NAMES}


def test_a_deadline_inside_a_host_call_names_the_call() -> None:
    made = Aegis(cache=False, pooled=False, timeout="50ms")
    text = '(module (import "env" "slow" (func $slow)) (func (export "run") (call $slow)))'

    def slow() -> None:
        while True:
            sandbox._run.door.remaining()

    sandbox = made.sandbox(made.load_wat(text), imports={"env": {"slow": slow}})
    with sandbox, pytest.raises(LimitExceeded) as caught:
        sandbox.call("run")
    check(caught.value, "timeout")
