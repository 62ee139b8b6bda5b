"""The fork server: one process, one thread, everything imported, nothing begun. Workers are its children.

It is started by ``exec``, never forked from the application, so no lock of another thread is held in it.
On its control socket it gets requests of a byte each, and answers in messages of one packet:

    F  a brief, with three descriptors: fork a worker    ->  P pid, with a descriptor of the process; or P 0
    I  and names of modules: import them                 ->  nothing
    (a worker ended)                                     ->  E pid status

The parent kills a worker by its process descriptor, without this server.

It never runs a guest or compiles: the engine's own threads would not survive the fork. When its socket ends,
so does it, and every worker with it.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import math
import os
import pkgutil
import select
import signal
import socket
import sys
import time

from aegis.isolation.protocol.packets import ENDED, FORKED, PACKET
from aegis.isolation.worker.reserve import NOT_NOW
from aegis.support.descriptors import occupy_standard
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.isolation.worker.warmup import Script

__all__ = ["main"]

_BESIDE = (
    "base64", "contextlib", "datetime", "difflib", "encodings.ascii", "encodings.idna", "encodings.latin_1",
    "encodings.punycode", "encodings.raw_unicode_escape", "encodings.unicode_escape", "encodings.utf_16_le",
    "functools", "hashlib", "importlib.util", "inspect", "ipaddress", "json", "logging", "platform", "resource",
    "stringprep", "traceback", "unicodedata",
)  # fmt: skip
_PARENT_DIES = 1  # PR_SET_PDEATHSIG


def main(descriptor: int, stack: int) -> None:
    """Serve on the control socket ``descriptor``; ``stack`` is the guests' stack, for a ready engine."""
    occupy_standard()
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where SIGCHLD is ignored, which exec passes on, the kernel discards the statuses of workers that ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _import_all()
    script = _warm(stack)
    _leave_directories()
    gc.collect()
    gc.freeze()
    _Zygote(control, script).serve()


def _import_all() -> None:
    """Import what a worker may come to need: once it is confined, it can import nothing."""
    for name in _BESIDE:
        importlib.import_module(name)
    for codec in ("unicode_escape", "raw_unicode_escape", "idna", "punycode", "ascii", "latin-1", "utf-16-le"):
        codecs.lookup(codec)
    waiting = ["aegis"]
    while waiting:
        package = importlib.import_module(waiting.pop())
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if found.name in NOT_NOW:
                continue
            if found.ispkg:
                waiting.append(found.name)
            else:
                importlib.import_module(found.name)


def _leave_directories() -> None:
    """Enter an empty directory for all workers; where none can be made, each of them says so itself."""
    from aegis.isolation.confine import enter_empty_directory

    with contextlib.suppress(OSError):
        enter_empty_directory()


_MODULE = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (result i32) (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))))"""
_COMPONENT = """(component
  (core module $m (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "run") (param i32 i32) (result i32)
      (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) i32.const 8))
  (core instance $m (instantiate $m))
  (func (export "run") (param "data" (list u8)) (result (list u8))
    (canon lift (core func $m "run") (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))"""


def _warm(stack: int) -> Script:
    """Go once through all that a worker does first, so that each has it behind itself: engine, call paths, caches.

    Return what workers play through, each for itself. Compiling on one thread starts none, and no clock ticks for so
    short a run. Functions of the plainest types are callable at once.
    """
    from itertools import product

    from aegis.engine.call.caller import Style, compile_caller
    from aegis.engine.compile.artifact import text_to_binary
    from aegis.engine.compile.config import EngineConfig, compile_on_one_thread, engine_for
    from aegis.engine.threads.guest_thread import DIRECT, thread_state
    from aegis.engine.threads.ticker import ticker
    from aegis.isolation.worker.confinement import prepare_filters
    from aegis.isolation.worker.warmup import scene_of, script_of
    from aegis.limits import Limits
    from aegis.policy import Policy
    from aegis.sandbox.artifacts import compile_artifact
    from aegis.sandbox.in_process import InProcessBackend
    from aegis.sandbox.run import Run
    from aegis.values import FuncType

    compile_on_one_thread()
    config = EngineConfig(stack=stack).for_workers()
    before, thread_state.mode, ticker.now = thread_state.mode, DIRECT, time.monotonic()
    module, component = (
        compile_artifact(text_to_binary(text), Limits(), lambda _: config, None) for text in (_MODULE, _COMPONENT)
    )
    for artifact, values in ((module, ()), (component, (b"x",))):
        run = Run(InProcessBackend(Policy(), config, config), artifact, measured=True)
        run.call("run", *values)
        run.close()
    engine_for(config.with_count())
    metered = EngineConfig(stack=stack, fuel=True).for_workers()
    engine_for(metered), engine_for(metered.with_count())
    prepare_filters()
    for parameters, result in product(range(4), ("", "i32", "i64", "f64")):
        for style in (Style.ALONE, Style.NESTING):
            compile_caller(FuncType((result or "i32",) * parameters, (result,) if result else ()), style)
    thread_state.mode, ticker.now = before, math.nan
    return script_of((scene_of(component, config, "run", b"x"), scene_of(module, config, "run")))


class _Zygote:
    def __init__(self, control: socket.socket, script: Script) -> None:
        self.control, self.script = control, script
        self.children: dict[int, int] = {}
        """Process descriptors of workers, with their pids."""
        self.engine = _open_descriptors() - {control.fileno()}
        """What the engine opened for itself, what the rehearsal needs, and the three standard streams."""
        self.poller = select.poll()
        self.poller.register(control, select.POLLIN)

    def serve(self) -> None:
        while True:
            for descriptor, _ in self.poller.poll():
                if descriptor != self.control.fileno():
                    self.reap(descriptor)
                elif not self.request():
                    return

    def request(self) -> bool:
        """Serve one request; tell whether there may be another."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, PACKET, 8)
        except OSError:
            return False
        if not data:
            return False
        if data[:1] == b"F" and len(descriptors) == 3:
            self.fork(descriptors, data[1:])
            return True
        if data[:1] == b"I":
            for name in data[1:].decode().split():
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            gc.freeze()
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def fork(self, descriptors: list[int], brief: bytes) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # no room for one more
            pid = -1
        if pid == 0:
            _become_worker(self, descriptors, brief, me)
        for descriptor in descriptors:  # who hears of the worker is the only one to hold its other ends
            os.close(descriptor)
        if pid < 0:
            self.control.send(FORKED.pack(b"P", 0))
            return
        child = os.pidfd_open(pid)
        self.children[child] = pid
        self.poller.register(child, select.POLLIN)
        socket.send_fds(self.control, [FORKED.pack(b"P", pid)], [child])

    def reap(self, descriptor: int) -> None:
        """A worker ended: tell how."""
        pid = self.children.pop(descriptor)
        self.poller.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        self.control.send(ENDED.pack(b"E", pid, status))


def _become_worker(zygote: _Zygote, descriptors: list[int], brief: bytes, parent: int) -> None:
    """In the child: never return to the server's code."""
    code = 70
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(code)
        _close_others({*descriptors, *zygote.engine})
        from aegis.isolation.worker.main import main as work

        conversation, cancel, said = descriptors
        work(conversation, cancel, said, brief, zygote.script)
        code = 0
    except BaseException:
        import traceback

        with contextlib.suppress(BaseException):
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
    finally:
        os._exit(code)


def _open_descriptors() -> set[int]:
    """Return what is open. The listing names its own descriptor too, whose number is free again after it."""
    return {number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number)}


def _is_open(descriptor: int) -> bool:
    try:
        os.get_inheritable(descriptor)
    except OSError:
        return False
    return True


def _close_others(kept: set[int]) -> None:
    for descriptor in _open_descriptors() - kept:
        with contextlib.suppress(OSError):
            os.close(descriptor)
