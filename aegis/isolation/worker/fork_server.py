"""The fork server: a process with a single thread that has imported every module and forks workers.

Theory of operation. The parent starts it with ``exec`` and does not fork it from the application, where another thread
could hold a lock at the fork. Requests and replies are packets on its control socket:

    F  worker specification, three descriptors: fork a worker    ->  P pid, with the process descriptor; or P 0
    I  names of modules: import them                             ->  no reply
    (a worker ended)                                             ->  E pid status

The parent kills a worker through its process descriptor, without this server.

After the warm-up the server neither runs guests nor compiles: threads of the engine would not survive the fork. The
server ends when its socket is closed, and the kernel then kills every worker (PR_SET_PDEATHSIG).
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
from aegis.isolation.worker.importable import NOT_PRELOADED
from aegis.support.descriptors import occupy_standard
from aegis.support.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from aegis.isolation.worker.warmup import Warmup

__all__ = ["main"]

_STDLIB_MODULES = (
    "base64", "contextlib", "datetime", "difflib", "encodings.ascii", "encodings.idna", "encodings.latin_1",
    "encodings.punycode", "encodings.raw_unicode_escape", "encodings.unicode_escape", "encodings.utf_16_le",
    "functools", "hashlib", "importlib.util", "inspect", "ipaddress", "json", "logging", "platform", "resource",
    "stringprep", "traceback", "unicodedata",
)  # fmt: skip
_PARENT_DIES = 1  # PR_SET_PDEATHSIG


def main(descriptor: int, stack: int) -> None:
    """Serve on the control socket ``descriptor``; ``stack`` is the guests' stack size in bytes, to create engines."""
    occupy_standard()
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If SIGCHLD is ignored, which execve(2) inherits, the kernel discards the exit statuses of workers.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _import_all()
    warmup = _warm(stack)
    _leave_directories()
    gc.collect()
    gc.freeze()
    _ForkServer(control, warmup).serve()


def _import_all() -> None:
    """Import every module that a worker may need: a confined worker cannot import."""
    for name in _STDLIB_MODULES:
        importlib.import_module(name)
    for codec in ("unicode_escape", "raw_unicode_escape", "idna", "punycode", "ascii", "latin-1", "utf-16-le"):
        codecs.lookup(codec)
    waiting = ["aegis"]
    while waiting:
        package = importlib.import_module(waiting.pop())
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if found.name in NOT_PRELOADED:
                continue
            if found.ispkg:
                waiting.append(found.name)
            else:
                importlib.import_module(found.name)


def _leave_directories() -> None:
    """Enter an empty directory on behalf of all workers. If that fails, each worker tries again and reports it."""
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


def _warm(stack: int) -> Warmup:
    """Create engines, compile call paths and fill caches once, so that workers inherit them.

    Return the warm-up that each worker runs itself. Compilation uses no threads here, and the ticker's thread does not
    start for so short a run, so the process stays single-threaded. Callers for common function types are compiled too.
    """
    from itertools import product

    from aegis.engine.call.caller import Style, compile_caller
    from aegis.engine.compile.artifact import text_to_binary
    from aegis.engine.compile.config import EngineConfig, compile_on_one_thread, engine_for
    from aegis.engine.threads.guest_thread import DIRECT, thread_state
    from aegis.engine.threads.ticker import ticker
    from aegis.isolation.worker.confinement import prepare_filters
    from aegis.isolation.worker.warmup import warmup_of, warmup_sandbox
    from aegis.limits import Limits
    from aegis.policy import Policy
    from aegis.sandbox.artifacts import compile_artifact
    from aegis.sandbox.in_process import InProcessBackend
    from aegis.sandbox.run import GuestRun
    from aegis.values import FuncType

    compile_on_one_thread()
    config = EngineConfig(stack=stack).for_workers()
    before, thread_state.mode, ticker.now = thread_state.mode, DIRECT, time.monotonic()
    module, component = (
        compile_artifact(text_to_binary(text), Limits(), lambda _: config, None) for text in (_MODULE, _COMPONENT)
    )
    for artifact, values in ((module, ()), (component, (b"x",))):
        run = GuestRun(InProcessBackend(Policy(), config, config), artifact, measured=True)
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
    return warmup_of((warmup_sandbox(component, config, "run", b"x"), warmup_sandbox(module, config, "run")))


class _ForkServer:
    """Serves requests on the control socket and reports workers that ended."""

    def __init__(self, control: socket.socket, warmup: Warmup) -> None:
        self.control, self.warmup = control, warmup
        self.children: dict[int, int] = {}
        """Process descriptors of workers, with their pids."""
        self.engine = _open_descriptors() - {control.fileno()}
        """Descriptors that workers keep: those of the engine and the warm-up, and the standard streams."""
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
        """Serve one request; return ``False`` at the end of the socket."""
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

    def fork(self, descriptors: list[int], spec: bytes) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # no memory, or too many processes
            pid = -1
        if pid == 0:
            _become_worker(self, descriptors, spec, me)
        # Before the reply: once the parent knows the worker, only the worker may hold these ends.
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            self.control.send(FORKED.pack(b"P", 0))
            return
        child = os.pidfd_open(pid)
        self.children[child] = pid
        self.poller.register(child, select.POLLIN)
        socket.send_fds(self.control, [FORKED.pack(b"P", pid)], [child])

    def reap(self, descriptor: int) -> None:
        """Report the exit status of the worker with this process descriptor."""
        pid = self.children.pop(descriptor)
        self.poller.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        self.control.send(ENDED.pack(b"E", pid, status))


def _become_worker(server: _ForkServer, descriptors: list[int], spec: bytes, parent: int) -> None:
    """Run the worker in the forked child; never return to the server's code."""
    code = 70  # EX_SOFTWARE
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the server ended before prctl(2): no signal will come
            os._exit(code)
        _close_others({*descriptors, *server.engine})
        from aegis.isolation.worker.main import main as work

        channel_end, cancel, stderr = descriptors
        work(channel_end, cancel, stderr, spec, server.warmup)
        code = 0
    except BaseException:
        import traceback

        with contextlib.suppress(BaseException):
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
    finally:
        os._exit(code)


def _open_descriptors() -> set[int]:
    """Return all open descriptors, without the descriptor of the directory listing itself."""
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
