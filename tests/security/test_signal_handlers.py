"""A guest's fault stays a trap when the application replaces the signal handlers that the engine installed.

Each row runs in a separate process, because a trap used to end that process, or to repeat forever. Oracle: each of
three traps is reported as a trap, whichever handler was replaced, and whenever.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.security.test_host_killers import said

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the engine uses no signals there")

FAULTS = """
import logging
logging.getLogger("aegis").addHandler(logging.NullHandler())
FAULTS = '''(module (import "env" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1)
  (func (export "one") (result i32) i32.const 1)
  (func (export "hosted") (result i32) (drop (call $f (i32.const 0))) (i32.load (i32.const 99999999)))
  (func (export "access") (result i32) (i32.load (i32.const 99999999)))
  (func (export "unreachable") unreachable)
  (func (export "division") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0))))'''
ALONE = FAULTS.replace('(import "env" "f" (func $f (param i32) (result i32)))', "").replace(
    "(drop (call $f (i32.const 0)))", "")
library = ctypes.CDLL(None)
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
SIGNALS = (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE)

def all_traps(text, call=lambda box, *a: box.call(*a)):
    box = made(text, None if text is ALONE else lambda x: x)
    box.call("one")
    for name, *given in (("access",), ("unreachable",), ("division", 0)):
        box.reset()
        box.call("one")
        replace()
        try:
            call(box, name, *given)
        except AegisError as error:
            print(type(error).__name__, getattr(error, "code", ""))
        else:
            print("returned")

def everywhere():
    all_traps(ALONE)
    all_traps(FAULTS)
    async def main():
        async def acall(box, *a):
            return await box.acall(*a)
        box = made(ALONE)
        await box.acall("one")
        replace()
        try:
            await box.acall("access")
        except AegisError as error:
            print(type(error).__name__, error.code)
    asyncio.run(main())
    thread = threading.Thread(target=lambda: all_traps(ALONE))
    REPLACE_HERE or thread.start() or thread.join()
REPLACE_HERE = False
"""
TRAPS = "GuestTrap memory-out-of-bounds\nGuestTrap unreachable\nGuestTrap integer-division-by-zero\n"
ALL = TRAPS * 2 + "GuestTrap memory-out-of-bounds\n"
REPLACEMENTS = {
    "a Python function": "[signal.signal(number, lambda *_: None) for number in SIGNALS]",
    "SIG_DFL": "[signal.signal(number, signal.SIG_DFL) for number in SIGNALS]",
    "SIG_IGN": "[signal.signal(number, signal.SIG_IGN) for number in SIGNALS]",
    "SIG_DFL of one signal": "[signal.signal(number, signal.SIG_DFL) for number in SIGNALS[1:2]]",
    "the handler that Python says was there": "[signal.signal(n, signal.getsignal(n)) for n in SIGNALS]",
    "faulthandler, disabled": "faulthandler.disable()",
    "faulthandler, disabled and enabled": "(faulthandler.disable(), faulthandler.enable())",
    "sigaction in C, default": "[library.signal(int(number), None) for number in SIGNALS]",
    "a wake-up descriptor": "(signal.set_wakeup_fd(WAKE, warn_on_full_buffer=False),"
    " [signal.signal(n, lambda *_: None) for n in SIGNALS])",
}


def run(program: str) -> subprocess.CompletedProcess[str]:
    done = said(FAULTS + program)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    assert "Fatal Python error" not in done.stderr
    return done


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("how", REPLACEMENTS)
def test_a_fault_is_a_trap_though_the_handlers_were_replaced_after_the_engine(how: str) -> None:
    program = f"""
WAKE = os.pipe()[1]
os.set_blocking(WAKE, False)
REPLACE_HERE = True
def replace():
    {REPLACEMENTS[how]}
everywhere()
"""
    assert run(program).stdout == ALL


@pytest.mark.parametrize("how", ["faulthandler, disabled and enabled", "sigaction in C, default"])
def test_a_fault_is_a_trap_on_another_thread_that_replaced_the_handlers(how: str) -> None:
    program = f"""
def replace():
    {REPLACEMENTS[how]}
everywhere()
"""
    assert run(program).stdout == ALL + TRAPS


@pytest.mark.parametrize("how", ["faulthandler, disabled and enabled", "sigaction in C, default"])
@pytest.mark.parametrize("kind", ["core", "component"])
def test_a_fault_is_a_trap_though_the_host_call_before_it_replaced_the_handlers(how: str, kind: str) -> None:
    component = """(component
  (import "f" (func $f))
  (core module $m (import "" "f" (func $f)) (memory 1)
    (func (export "hosted") (call $f) (drop (i32.load (i32.const 99999999)))))
  (core func $f (canon lower (func $f)))
  (core instance $n (instantiate $m (with "" (instance (export "f" (func $f))))))
  (func (export "hosted") (canon lift (core func $n "hosted"))))"""
    program = f"""
def replace(x=None):
    {REPLACEMENTS[how]}
    return x
if {kind!r} == "core":
    ends(made(FAULTS, replace).call, "hosted")
else:
    ends(made({component!r}, component={{"f": replace}}).call, "hosted")
"""
    assert run(program).stdout == "GuestTrap\n"


@pytest.mark.parametrize("code", ["host function", "subscriber"])
def test_code_of_the_application_beside_functions_of_aegis_may_replace_handlers(code: str) -> None:
    """Functions of Aegis replace none, so nothing is checked after them, unless the sandbox has such code."""
    program = f"""
WASI = '''(module (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  IMPORT (memory (export "memory") 1)
  (func (export "go") HOSTED (drop (call $random (i32.const 0) (i32.const 8))) HOSTED
    (drop (i32.load (i32.const 99999999)))))'''
hosted = {code!r} == "host function"
text = WASI.replace("IMPORT", '(import "env" "f" (func $f))' if hosted else "")
text = text.replace("HOSTED", "(call $f)" if hosted else "")
def replace(event=None):
    [library.signal(int(number), None) for number in SIGNALS]
runtime = Aegis(cache=False)
sandbox = runtime.sandbox(
    runtime.load_wat(text), imports={{"env": {{"f": replace}}}} if hosted else None,
    subscribers=() if hosted else (replace,))
ends(sandbox.call, "go")
"""
    assert run(program).stdout == "GuestTrap\n"


@pytest.mark.parametrize("how", ["an iterator", "an asynchronous iterator"])
def test_a_fault_is_a_trap_though_a_stream_of_the_application_replaced_the_handlers(how: str) -> None:
    """The guest reads the stream in the middle of its code."""
    program = f"""
text = '''(component
  (type $s (stream u8))
  (core module $Memory (memory (export "memory") 1))
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "memory" (core memory $m))
  (core func $read (canon stream.read $s (memory $m)))
  (core func $return (canon task.return))
  (core module $M
    (import "" "memory" (memory 1))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (import "" "return" (func $return))
    (func (export "go") (param i32)
      (drop (call $read (local.get 0) (i32.const 0) (i32.const 16)))
      (drop (i32.load (i32.const 99999999)))
      (call $return)))
  (core instance $i (instantiate $M (with "" (instance (export "memory" (memory $m))
    (export "read" (func $read)) (export "return" (func $return))))))
  (func (export "go") async (param "s" $s) (canon lift (core func $i "go") async (memory $m))))'''
def pieces():
    [library.signal(int(number), None) for number in SIGNALS]
    yield b"abc"
async def apieces():
    [library.signal(int(number), None) for number in SIGNALS]
    yield b"abc"
box = made(text, component={{}})
if {how!r} == "an iterator":
    ends(box.call, "go", pieces())
else:
    async def main():
        await box.acall("go", apieces())
    ends(asyncio.run, main())
"""
    assert run(program).stdout == "GuestTrap\n"


def test_a_fault_of_a_start_function_or_of_an_inner_call_is_a_trap_too() -> None:
    program = """
replace = lambda: [library.signal(int(number), None) for number in SIGNALS]
made(ALONE).call("one")
starts = '''(module (memory 1) (func $s (drop (i32.load (i32.const 99999999)))) (start $s))'''
replace()
ends(made, starts)
hosted = starts.replace("(memory", '(import "env" "f" (func (param i32) (result i32))) (memory')
replace()
ends(made, hosted, lambda x: x)
@with_caller
def f(caller, x):
    replace()
    return caller.call("access")
ends(made(FAULTS, f).call, "hosted")
"""
    assert run(program).stdout == "GuestTrap\n" * 3


def test_a_python_handler_installed_during_a_call_does_not_keep_a_fault_from_being_a_trap() -> None:
    """The main thread installs it while the guest is between two checks; the ticker notices that."""
    program = """
go, installed = threading.Event(), threading.Event()
def f(x):
    go.set()
    installed.wait(20)
    return x
box = made(FAULTS, f)
thread = threading.Thread(target=lambda: ends(box.call, "hosted"))
thread.start()
go.wait()
for number in SIGNALS:
    signal.signal(number, lambda *_: None)
installed.set()
thread.join()
"""
    assert run(program).stdout == "GuestTrap\n"


QUICKEST = {
    "signal.signal without its checks": "replace(11, 0)",
    "a C function, prepared": "install(number, nothing)",
    "sigprocmask, prepared": "mask(block, every, nothing)",
}


@pytest.mark.parametrize("how", QUICKEST)
def test_a_fault_is_a_trap_though_the_quickest_code_replaced_the_handlers_just_before(how: str) -> None:
    """Between two calls that are close enough, Aegis does not look at the handlers: no Python code is that quick."""
    program = f"""
from _signal import signal as replace
quick = ctypes.PyDLL(None)
install, mask = quick.signal, quick.pthread_sigmask
number, nothing, block = ctypes.c_int(11), ctypes.c_void_p(0), ctypes.c_int(signal.SIG_BLOCK)
every = (ctypes.c_char * 256)(*[b"\\xff"] * 256)
box = made('(module (memory 1) (func (export "load") (param i32) (result i32) (i32.load (local.get 0))))')
def attempt(call):
    call("load", 0)
    call("load", 0); {QUICKEST[how]}; call("load", -4)
traps = 0
for _ in range(300):
    try:
        attempt(box.call)
    except GuestTrap:
        traps += 1
    box.reset()
print(traps)
"""
    assert run(program).stdout == "300\n"


def test_a_native_handler_of_another_runtime_stays_and_the_call_is_refused() -> None:
    program = """
box = made(ALONE)
box.call("one")
library.signal(int(signal.SIGSEGV), NATIVE)
for _ in range(2):
    try:
        box.call("access")
    except SandboxStateError as error:
        print(error.state, "SIGSEGV" in str(error), "isolation" in str(error), box.state)
library.signal(int(signal.SIGSEGV), None)
ends(box.call, "access")
"""
    assert run(program).stdout == "signals True True ready\n" * 2 + "GuestTrap\n"


def test_a_host_function_that_installs_a_native_handler_is_named_in_the_error() -> None:
    program = """
def f(x):
    library.signal(int(signal.SIGSEGV), NATIVE)
    return x
box = made(FAULTS, f)
try:
    box.call("hosted")
except HostError as error:
    print("env.f" in str(error), "SIGSEGV" in str(error), box.state)
"""
    assert run(program).stdout == "True True poisoned\n"


def test_the_application_is_warned_once_that_its_handlers_were_replaced() -> None:
    program = """
logging.getLogger("aegis").handlers[:] = [logging.StreamHandler(sys.stdout)]
box = made(ALONE)
for _ in range(3):
    box.call("one")
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    box.call("one")
"""
    (line,) = run(program).stdout.splitlines()
    assert "SIGSEGV" in line
    assert "before creating the first sandbox" in line


@pytest.mark.usual(every=3)
@pytest.mark.parametrize("signals", ["SIGNALS", "signal.valid_signals()"])
@pytest.mark.parametrize("where", ["main thread", "thread of the application"])
@pytest.mark.parametrize("first", ["blocked, then used", "used, then blocked"])
def test_a_fault_is_a_trap_in_a_thread_that_blocks_its_signal(signals: str, where: str, first: str) -> None:
    """Servers block signals in their threads; the kernel kills the process for a fault in such a thread."""
    program = f"""
def replace():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signals})
def main():
    {"replace()" if first == "blocked, then used" else ""}
    everywhere()
if {where!r} == "main thread":
    main()
else:
    threading.stack_size(16 << 20)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
"""
    assert run(program).stdout == ALL + TRAPS


@pytest.mark.parametrize("kind", ["start function", "host call", "inner call"])
def test_a_fault_is_a_trap_though_its_signal_was_blocked_on_the_way(kind: str) -> None:
    program = f"""
@with_caller
def f(caller, x):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return x if {kind!r} == "host call" else caller.call("access")
starts = '''(module (memory 1) (func $s (drop (i32.load (i32.const 99999999)))) (start $s))'''
if {kind!r} == "start function":
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ends(made, starts)
else:
    ends(made(FAULTS, f).call, "hosted")
"""
    assert run(program).stdout == "GuestTrap\n"


@pytest.mark.usual("SIG_DFL", "SIG_IGN")
@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
@pytest.mark.parametrize("how", ["a Python function", "SIG_DFL", "SIG_IGN", "sigaction in C, default"])
def test_a_worker_has_handlers_of_its_own(how: str) -> None:
    program = f"""
def made(text, f=None, **policy):
    return runtime.sandbox(runtime.load_wat(text), imports=None if f is None else {{"env": {{"f": f}}}})
def replace():
    {REPLACEMENTS[how]}
runtime = Aegis(cache=False, isolation=True)
all_traps(ALONE)
runtime.close()
replace()
runtime = Aegis(cache=False, isolation=True)
all_traps(ALONE)
runtime.close()
"""
    assert run(program).stdout == TRAPS * 2


def test_an_engine_that_the_application_made_before_leaves_traps_traps() -> None:
    """Enabling ``faulthandler`` after that engine would replace its handlers, and Aegis would record the wrong ones."""
    code = """
import wasmtime
wasmtime.Engine()
import aegis
TEXT = '(module (memory 1) (func (export "f") unreachable) (func (export "g") (drop (i32.load (i32.const -1)))))'
with (runtime := aegis.Aegis(cache=False)).sandbox(runtime.load_wat(TEXT)) as sandbox:
    print(sandbox.run("f").error.code)
    sandbox.reset()
    print(sandbox.run("g").error.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["unreachable", "memory-out-of-bounds"]), done.stderr


def test_where_handlers_are_left_to_ticks_a_tick_installs_them_again_and_a_call_does_not_ask() -> None:
    """Oracle: the handler that the kernel has. Only a worker, which runs no code of an embedder, does this."""
    program = """
    from aegis.engine.native import signals
    made(ALONE).call("one")
    ask = signals._installed
    own = [ask(int(number)) for number in SIGNALS]
    signals.leave_to_ticks()
    signals.secure()
    assert [ask(int(number)) for number in SIGNALS] == own
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signals.secure()
    print([ask(int(number)) for number in SIGNALS] == own)
    signals.secure_at_tick()
    print([ask(int(number)) for number in SIGNALS] == own)
    signals.leave_to_ticks()
    signals.secure_at_tick()
    print([ask(int(number)) for number in SIGNALS] == own)
    all_traps(ALONE, lambda box, *a: box.call(*a))
    """
    replaced = "replace = lambda: None\n" + textwrap.dedent(program)
    assert run(replaced).stdout == "False\nTrue\nTrue\n" + TRAPS


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
@pytest.mark.parametrize("text", ["ALONE", "FAULTS"])
def test_a_fault_in_a_worker_is_a_trap_though_its_starter_blocked_and_replaced_everything(text: str) -> None:
    program = f"""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    before = made
    def made(*a):
        return before(*a, isolation=True)
    for count in range(3):
        def call(box, name, *given):
            for _ in range(count):
                box.call("one")
            if name == "division":
                for _ in range(count):
                    box.call(name, 1)
            return box.call(name, *given)
        all_traps({text}, call)
    """
    assert run("replace = lambda: None\n" + textwrap.dedent(program)).stdout == TRAPS * 3
