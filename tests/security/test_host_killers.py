"""Inputs that once killed the host process, one per row: each ends in a documented way now.

Each row runs in a separate process, because the attempt did end the process once: by an abort, a segmentation fault, or
a hang. Oracle: the process prints the text of the row, and exits with 0.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.preloaded import run_program

ROOT = Path(__file__).resolve().parents[2]
IMPORTED = ("asyncio", "ctypes", "faulthandler", "aegis.runtime", "tests.security.test_components", "tests.echo")
PRELUDE = '''
import asyncio, ctypes, faulthandler, gc, os, signal, sys, threading, time
import aegis
from aegis import *
from tests.security.test_components import HANDLES, REENTRANT, Things
from tests.echo import echo_component
from tests.guests.catalogue import GUESTS

PLAIN = """(module (memory (export "memory") 1 4) (global (export "g") (mut i32) (i32.const 0))
  (func (export "one") (result i32) i32.const 1)
  (func (export "grow") (result i32) (memory.grow (i32.const 1)))
  (func (export "bad") (result i32) (i32.load (i32.const 99999999)))
  (func $down (export "down") (call $down) (call $down))
  (func (export "spin") (loop $l (br $l))))"""
HOSTED = """(module (import "env" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1)
  (func (export "go") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "many") (loop $l (drop (call $f (i32.const 1))) (br $l)))
  (func (export "spin") (drop (call $f (i32.const 1))) (loop $l (br $l)))
  (func $down (export "down") (param i32) (result i32) (drop (call $f (local.get 0)))
    (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.const 1))))"""

def made(text=PLAIN, f=None, component=None, **policy):
    runtime = Aegis(**{"cache": False, "timeout": "20s", **policy})
    imports = component if component is not None else None if f is None else {"env": {"f": f}}
    return runtime.sandbox(runtime.load_wat(text), imports=imports)

def echoing(of, f=lambda x: x):
    return made(echo_component(of), component={"echo": f})

def ends(function, *arguments):
    try:
        value = function(*arguments)
    except BaseException as error:
        cause = error.__cause__
        print(type(error).__name__ + (f"({type(cause).__name__})" if cause is not None else ""))
    else:
        print(repr(value))
'''


class Killer(NamedTuple):
    """The attempt, as a program, and its expected output."""

    name: str
    program: str
    says: str


ROWS = [
    # -- the table of the engine's facts -----------------------------------------------------------------
    Killer(
        "a char of half a surrogate pair, as an argument",
        """
box = echoing("char")
ends(box.call, "echo-back", "\\ud800")
ends(box.call, "echo-back", "a")
""",
        "CallError\n'a'",
    ),
    Killer(
        "a char of half a surrogate pair, as a host's result",
        """
box = echoing("char", lambda x: "\\udfff")
ends(box.call, "echo-back", "a")
""",
        "HostError",
    ),
    Killer(
        "a string with half a surrogate pair, which no UTF-8 has",
        """
box = echoing("string")
ends(box.call, "echo-back", "\\ud800")
ends(echoing("string", lambda x: "\\ud800").call, "echo-back", "a")
""",
        "CallError\nHostError",
    ),
    Killer(
        "a handle used with another store",
        """
runtime = Aegis(cache=False)
component = runtime.load_file(GUESTS / "components" / "counter.wat")
first, second = runtime.sandbox(component), runtime.sandbox(component)
name = "test:counters/counters@1.0.0#[method]counter.increment"
handle = first.exports["test:counters/counters"].Counter(5)
ends(second.call, name, handle, 2)
ends(first.call, name, handle, 2)
first.reset()
ends(first.call, name, handle, 2)
first.close()
del handle
gc.collect()
""",
        "CallError\n7\nCallError",
    ),
    Killer(
        "a memory read after its store was closed",
        """
box = made()
memory = box.memory
copy = memory.read(0, 4)
box.close()
ends(memory.read, 0, 4)
ends(memory.write, 0, b"x")
print(copy)
""",
        "SandboxStateError\nSandboxStateError\nb'\\x00\\x00\\x00\\x00'",
    ),
    Killer(
        "a memory read after a growth that moved it",
        """
box = made()
memory = box.memory
copy = memory.read(0, 65536)
box.call("grow")
print(len(copy), len(memory.read(0, 131072)))
""",
        "65536 131072",
    ),
    Killer(
        "a memory kept by a host function and used when its call is over",
        """
kept = []
@with_caller
def f(caller, x):
    kept.append(caller)
    return x
box = made(HOSTED, f)
box.call("go", 1)
box.close()
ends(kept[0].read, 0, 4)
""",
        "SandboxStateError",
    ),
    Killer(
        "closing and resetting inside a host call",
        """
def f(x):
    ends(box.close)
    ends(box.reset)
    return x
box = made(HOSTED, f)
ends(box.call, "go", 3)
ends(box.close)
""",
        "SandboxStateError\nSandboxStateError\n3\nNone",
    ),
    Killer(
        "closing a component inside its host call",
        """
box = made(REENTRANT, component={"again": lambda: ends(box.close)})
ends(box.call, "go")
ends(box.close)
""",
        "SandboxStateError\nNone\nNone",
    ),
    Killer(
        "one store on two threads",
        """
entered, go = threading.Event(), threading.Event()
def f(x):
    entered.set()
    go.wait(20)
    return x
box = made(HOSTED, f)
thread = threading.Thread(target=lambda: ends(box.call, "go", 5))
thread.start()
entered.wait()
for way in (lambda: box.call("go", 1), box.close, box.reset, lambda: box.memory.read(0, 1)):
    ends(way)
go.set()
thread.join()
""",
        "SandboxStateError\nSandboxStateError\nSandboxStateError\nSandboxStateError\n5",
    ),
    Killer(
        "configuration that aborts the engine",
        """
for policy in ({"stack": 0}, {"stack": "16MiB"}, {"stack": -1}, {"stack": 1 << 80}, {"memory": -1}, {"fuel": -1},
               {"timeout": -1}, {"timeout": float("nan")}, {"table_elements": -1}, {"tables": -1}, {"memories": -5},
               {"instances": -1}, {"stack": None}):
    try:
        with Aegis(cache=False, **policy).sandbox() as box:
            print("made", policy)
    except (ValueError, TypeError) as error:
        pass
print("refused")
""",
        "refused",
    ),
    Killer(
        "limits as large as numbers go",
        """
largest = {"fuel": (1 << 63) - 1, "memory": "4GiB", "table_elements": 10_000_000, "host_calls": 1 << 62}
box = made(**largest, timeout=31_622_400)
ends(box.call, "one")
ends(made(fuel=None, memory=None, table_elements=None, timeout=None, tables=None, memories=None).call, "one")
""",
        "1\n1",
    ),
    Killer(
        "a cache whose files were altered",
        """
import tempfile
from pathlib import Path
folder = tempfile.mkdtemp()
os.environ["XDG_CACHE_HOME"] = folder
def run():
    runtime = Aegis()
    return runtime.sandbox(runtime.load_wat(PLAIN)).call("one")
run()
files = [path for path in Path(folder).rglob("*") if path.is_file()]
big = [path for path in files if path.stat().st_size > 500]
assert big, files
for path in big:
    raw = bytearray(path.read_bytes())
    for at in range(64, len(raw), 7):
        raw[at] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(raw)
print(run())
for path in big:
    path.write_bytes(b"")
print(run())
""",
        "1\n1",
    ),
    Killer(
        "native code given as a module",
        """
runtime = Aegis(cache=False)
for raw in (b"\\x7fELF" + bytes(4000), b"", b"\\0", b"\\0asm", b"\\0asm\\x01\\0\\0\\0" + b"\\xff" * 99, b"(module)"):
    ends(runtime.load, raw)
""",
        "\n".join(["ArtifactError"] * 6),
    ),
    Killer(
        "values of no type at all",
        """
for of in ("u8", "s64", "f32", "bool", "char", "string"):
    box = echoing(of)
    for value in (None, object(), 1 << 200, "\\0" * 3, [1], b"x", float("inf"), -1, {}, (), True, type):
        try:
            box.call("echo-back", value)
        except CallError:
            pass
    bad = echoing(of, lambda x: [[]])
    ends(bad.call, "echo-back", {"u8": 1, "s64": 1, "f32": 1.0, "bool": True, "char": "a", "string": "a"}[of])
""",
        "\n".join(["HostError"] * 6),
    ),
    Killer(
        "NUL in arguments and environment",
        """
runtime = Aegis(cache=False)
module = runtime.load_wat('''(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func (param i32 i32) (result i32))))''')
ends(lambda: runtime.sandbox(module, args=["a\\0b"]))
ends(lambda: Aegis(environment=EnvironmentCapability(set={"A": "b\\0c"})))
ends(lambda: Aegis(environment=EnvironmentCapability(set={"A\\0": "b"})))
ends(lambda: Aegis(filesystem=FilesystemCapability.read_only("/tmp\\0/x")).sandbox(module))
""",
        "\n".join(["PolicyError"] * 4),
    ),
    Killer(
        "types that cannot be reflected",
        """
runtime = Aegis(cache=False)
for text in ('(module (import "e" "f" (func (param v128))))',
             '(module (global (export "g") v128 (v128.const i64x2 0 0)))',
             '(module (func (export "f") (result externref) ref.null extern))',
             '(module (table (export "t") 1 funcref))',
             '(module (type $s (struct)) (func (export "f") (result (ref null $s)) ref.null $s))'):
    try:
        module = runtime.load_wat(text)
        module.exports, module.imports
        with runtime.sandbox(module) as box:
            box.call("f")
    except AegisError as error:
        pass
print("alive")
""",
        "alive",
    ),
    # -- exceptions, signals, destructors ------------------------------------------------------------------
    Killer(
        "exceptions that nobody may catch, in a component's host function",
        """
for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, MemoryError, RecursionError):
    def again(kind=kind):
        raise kind
    box = made(REENTRANT, component={"again": again})
    ends(box.call, "go")
""",
        "KeyboardInterrupt\nSystemExit\nGeneratorExit\nCancelledError\nHostError(MemoryError)\nHostError(RecursionError)",
    ),
    Killer(
        "SIGINT at the entry of a callback, many times",
        """
count = 0
def f(x):
    return x
def send():
    for _ in range(300):
        if stop.is_set():
            return
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait(0.001)
for text, component in ((HOSTED, None), (REENTRANT, {"again": lambda: None})):
    runtime = Aegis(cache=False, fuel=None, timeout="1s", host_calls=None)
    module = runtime.load_wat(text)
    stop = threading.Event()
    seen = 0
    thread = threading.Thread(target=send)
    try:
        thread.start()
    except KeyboardInterrupt:
        seen += 1
    while thread.is_alive():
        try:
            with runtime.sandbox(module, imports=component or {"env": {"f": f}}) as box:
                if component:
                    for _ in range(50):
                        box.call("go")
                else:
                    box.call("many")
        except (KeyboardInterrupt, SandboxStateError, DeadlineExceeded):
            seen += 1
    for _ in range(3):
        try:
            thread.join()
            break
        except KeyboardInterrupt:
            seen += 1
    print(seen > 5)
""",
        "True\nTrue",
    ),
    Killer(
        "faulthandler enabled after the engine",
        """
box = made()
box.call("one")
faulthandler.enable()
ends(box.call, "bad")
""",
        "GuestTrap",
    ),
    Killer(
        "a Python handler of SIGFPE installed before the engine",
        """
signal.signal(signal.SIGFPE, lambda *_: print("python saw it"))
box = made()
ends(box.call, "bad")
""",
        "GuestTrap",
    ),
    Killer(
        "a destructor that raises, as the guest drops and as the sandbox closes",
        """
class Bad(Things):
    def __init__(self, kind):
        super().__init__()
        def drop(self):
            raise kind("in __drop__")
        self.kind.__drop__ = drop
for kind in (ValueError, KeyboardInterrupt, SystemExit):
    box = made(HANDLES, component={"test:things/things": Bad(kind)})
    ends(box.call, "well")
    box = made(HANDLES, component={"test:things/things": Bad(kind)})
    ends(box.call, "leak")
    ends(box.close)
""",
        "HostError(ValueError)\nNone\nNone\nKeyboardInterrupt\nNone\nKeyboardInterrupt\nSystemExit\nNone\nSystemExit",
    ),
    Killer(
        "__del__ of host objects that raises, or uses the sandbox",
        """
sys.unraisablehook = lambda _: None
class Deleted:
    def __del__(self):
        ends(box.close)
        raise ValueError
def f(x):
    Deleted()
    return x
box = made(HOSTED, f)
ends(box.call, "go", 4)
""",
        "SandboxStateError\n4",
    ),
    # -- stacks, recursion, re-entrance ----------------------------------------------------------------------
    Killer(
        "threads with small stacks",
        """
def recurse():
    for text, f in ((PLAIN, None), (HOSTED, lambda x: x)):
        try:
            made(text, f, fuel=None).call("down", *([0] if f else []))
        except StackExhausted:
            found.append(1)
for size in (64, 128, 256, 512):
    found = []
    threading.stack_size(size * 1024)
    thread = threading.Thread(target=recurse)
    thread.start()
    thread.join()
    print(len(found))
""",
        "2\n2\n2\n2",
    ),
    Killer(
        "calls at the limit of Python's recursion, and beyond what it should be",
        """
def deep(n, box):
    return deep(n - 1, box) if n else box.call("go", 7)
def work():
    answers = set()
    box = made(HOSTED, lambda x: x)
    box.call("go", 7)
    for n in range(sys.getrecursionlimit() - 80, sys.getrecursionlimit()):
        try:
            answers.add(deep(n, box))
        except (RecursionError, HostError) as error:
            answers.add(type(error).__name__)
        if box.state != "ready":
            box.reset()
    print(answers <= {7, "RecursionError", "HostError"})
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
        "True\nTrue",
    ),
    Killer(
        "guests and hosts that call one another without end",
        """
@with_caller
def f(caller, x):
    return caller.call("go", x + 1)
ends(made(HOSTED, f).call, "go", 0)
def new(x):
    return made(HOSTED, new).call("go", x + 1) if x < 40 else x
ends(made(HOSTED, new).call, "go", 0)
""",
        "StackExhausted\n40",
    ),
    Killer(
        "entering a component from its own host function",
        """
def again():
    try:
        box.call("go")
    except SandboxStateError as error:
        print("refused")
box = made(REENTRANT, component={"again": again})
ends(box.call, "go")
""",
        "refused\nNone",
    ),
    # -- life and death -----------------------------------------------------------------------------------------
    Killer(
        "a sandbox that is collected during its own call",
        """
def f(x):
    global box
    box = None
    gc.collect()
    return x
box = made(HOSTED, f)
ends(box.call, "go", 6)
gc.collect()
def lose():
    return made(HOSTED, lambda x: gc.collect() and x or x).call("go", 8)
ends(lose)
made().call("one"), made(REENTRANT, component={"again": gc.collect and (lambda: None)}).call("go")
gc.collect()
""",
        "6\n8",
    ),
    Killer(
        "a sandbox in a cycle, collected by another guest's host call",
        """
class Holder: pass
def cycle():
    holder = Holder()
    holder.box = made(HOSTED, lambda x: x)
    holder.box.call("go", 1)
    holder.me = holder
def f(x):
    for _ in range(5):
        cycle()
    gc.collect()
    return x
ends(made(HOSTED, f).call, "go", 9)
""",
        "9",
    ),
    Killer(
        "the interpreter ends while a guest runs",
        """
from aegis.engine.threads.guest_thread import run_on_guest_thread
entered = threading.Event()
class Slow:
    def __init__(self):
        self.sleep = time.sleep
    def __del__(self):
        self.sleep(0.1)
def f(x):
    entered.set()
    return x
boxes = [made(HOSTED, f, fuel=None, timeout="60s", host_calls=None) for _ in range(3)]
for box, name in zip(boxes, ("spin", "many", "many")):
    run_on_guest_thread(lambda box=box, name=name: box.call(name))
threading.Thread(target=lambda: made(fuel=None, timeout="60s").call("spin"), daemon=True).start()
entered.wait()
slow = Slow()
print("over")
""",
        "over",
    ),
    Killer(
        "the interpreter ends while a host function is stuck",
        """
box = made(HOSTED, lambda x: time.sleep(2) or x, timeout="500ms")
ends(box.call, "go", 1)
""",
        "Abandoned",
    ),
    Killer(
        "the event loop ends while guests run",
        """
entered = threading.Event()
def f(x):
    entered.set()
    return x
async def main():
    boxes = [made(HOSTED, f, fuel=None, timeout="60s") for _ in range(8)]
    tasks = [asyncio.create_task(box.acall("spin")) for box in boxes]
    while not entered.is_set():
        await asyncio.sleep(0)
asyncio.run(main())
print("over")
""",
        "over",
    ),
    # -- before there is an instance ---------------------------------------------------------------------------
    Killer(
        "a data segment that does not fit, beside an exported memory",
        """
ends(made, '(module (memory (export "memory") 0) (data (i32.const 1024) "x"))')
ends(made().call, "one")
ends(made, '(module (table (export "t") 1 funcref) (func $s unreachable) (start $s))')
""",
        "GuestTrap\n1\nGuestTrap",
    ),
    Killer(
        "a start function that calls WASI, which reads its memory",
        """
text = '''(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $s (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (start $s) (func (export "one") (result i32) i32.const 1))'''
ends(made(text).call, "one")
""",
        "1",
    ),
    # -- sizes --------------------------------------------------------------------------------------------------
    Killer(
        "absurd sizes",
        """
box = made()
for offset, length in ((0, 1 << 62), (1 << 62, 1), (-1, 4), (0, -1), ((1 << 64) - 1, 2), (65535, 2), (1 << 200, 1)):
    try:
        box.memory.read(offset, length)
        print("read", offset, length)
    except (MemoryFault, ValueError, OverflowError, CallError):
        pass
ends(box.call, "one")
ends(box.call, "x" * 10_000_000)
runtime = Aegis(cache=False)
ends(runtime.load, bytes(33 << 20))
ends(lambda: runtime.sandbox(runtime.load_wat('(module (memory 65536))')))
ends(lambda: runtime.sandbox(runtime.load_wat('(module (table 4000000000 funcref))')))
ends(lambda: runtime.sandbox(runtime.load_wat('(module (import "env" "f" (func)))'), imports={"env": {"\\0" * 99: 1}}))
""",
        "1\nExportNotFound\nArtifactError\nMemoryExceeded\nMemoryExceeded\nLinkError",
    ),
]

FORKS = [
    Killer(
        "a fork while a guest runs on another thread",
        """
entered = threading.Event()
def f(x):
    entered.set()
    return x
box = made(HOSTED, f, fuel=None, timeout="60s")
thread = threading.Thread(target=lambda: ends(box.call, "spin"))
thread.start()
entered.wait()
child = os.fork()
if child == 0:
    fresh = made(fuel=None, timeout="200ms")
    good = fresh.call("one") == 1 and fresh.run("spin").status == "timeout"
    with made(HOSTED, lambda x: x + 1) as hosted:
        good = good and hosted.call("go", 1) == 2
    component = made(REENTRANT, component={"again": lambda: None})
    component.call("go")
    async def main():
        with made(HOSTED, lambda x: x + 1) as hosted:
            return await hosted.acall("go", 1)
    good = good and asyncio.run(main()) == 2
    try:
        box.call("go", 1)
        good = False
    except SandboxStateError:
        pass  # the call under way is the parent's
    os._exit(0 if good else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
box.cancel()
thread.join()
""",
        "0\nCancelled",
    ),
    Killer(
        "a fork inside a host function",
        """
def f(x):
    child = os.fork()
    if child == 0:
        good = made().call("one") == 1
        os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
ends(made(HOSTED, f).call, "go", 1)
""",
        "0",
    ),
    Killer(
        "a runtime and its sandboxes used by parent and child",
        """
runtime = Aegis(cache=False, fuel=None, timeout="300ms")
module = runtime.load_wat(PLAIN)
box = runtime.sandbox(module)
box.call("one")
child = os.fork()
if child == 0:
    good = box.call("one") == 1 and box.run("spin").status == "timeout"
    box.reset()
    good = good and box.call("one") == 1 and runtime.sandbox(module).run("spin").status == "timeout"
    good = good and runtime.sandbox(runtime.load_wat(PLAIN)).call("one") == 1
    os._exit(0 if good else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ends(box.call, "one")
print(box.run("spin").status)
""",
        "0\n1\ntimeout",
    ),
]


def said(program: str) -> subprocess.CompletedProcess[str]:
    return run_program(PRELUDE + program, imported=IMPORTED, cwd=ROOT, seconds=30)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_killer_of_hosts_ends_as_documented(row: Killer) -> None:
    done = said(row.program)
    assert done.returncode == 0, f"{signal_of(done.returncode)}: {done.stderr[-2000:]}"
    assert done.stdout.strip() == row.says, done.stderr[-2000:]
    assert "Fatal Python error" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("row", FORKS, ids=lambda row: row.name)
def test_a_forked_child_lives_by_itself(row: Killer) -> None:
    test_a_killer_of_hosts_ends_as_documented(row)


def signal_of(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
