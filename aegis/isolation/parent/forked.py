"""A worker that a command forks from itself, while it has a single thread and before it reads any input.

``aegis run --isolate`` needs one worker, and a fork server takes longer to start than the rest of the run. A fork of
the command inherits more than a fork of the fork server. The child gives it up first:

* Environment and command-line arguments, which may contain secrets. Their bytes are overwritten where the kernel put
  them, in Python objects, and in the copies that the interpreter made at its start. There are no other copies: the
  command forks before it parses its arguments, reads a policy, or opens its cache.
* Open files. All descriptors except the worker's own sockets are closed, including the standard streams; that of the
  archive of modules is closed once the worker has imported them.
* The terminal. The child enters a session of its own, so that Ctrl-C reaches only the command.
* Modules. The child has those imported so far, and reads the code of the others
  (:mod:`aegis.isolation.worker.preloaded_code`).

One thing remains: the command and its worker share their address-space layout and hash seed, as a fork server and its
workers do. A compromised worker knows the addresses of objects in the command.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from aegis.isolation.parent.pool import Worker, WorkerProcess
from aegis.isolation.worker.importable import PASSED_VARIABLES
from aegis.support.lean import TYPE_CHECKING, Any
from aegis.support.module_archive import ModuleArchive

if TYPE_CHECKING:
    import signal
else:  # the C module behind signal, without its enumerations
    import _signal as signal

__all__ = ["fork_worker", "take_forked"]

_PARENT_DIES = 1  # PR_SET_PDEATHSIG
_MIN_SECRET_CHARACTERS = 2
"""CPython shares the objects of shorter texts, which must not be overwritten."""
_FREED_BYTES = 32
"""Bytes that malloc(3) overwrites at the start of a freed block: two pointers, or four in a large block."""
_WIDE_BYTES = 4
_waiting: list[Worker] = []


def fork_worker() -> None:
    """Fork the worker of this command if the system permits it; :func:`take_forked` returns the worker.

    Do nothing if ``sys.path`` contains the working directory as ``""``: CPython 3.13.0 then calls getcwd(2) whenever a
    module lacks an attribute, which fails in the worker's deleted directory.
    """
    if "" in sys.path:
        return
    if sys.platform == "linux" and hasattr(os, "pidfd_open") and threading.active_count() == 1:
        # If SIGCHLD is ignored, which execve(2) inherits, the kernel discards the exit status of children.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _waiting.append(Worker(_ForkedWorkerFactory(), b""))


def take_forked() -> Worker | None:
    """Return the forked worker on the first call, if it is alive; otherwise ``None``."""
    return _waiting.pop() if _waiting and _waiting[0].is_idle() else None


class _ForkedWorkerFactory:
    """The factory of the single worker that this process forks itself."""

    def __init__(self) -> None:
        self._owner = os.getpid()

    @property
    def alive(self) -> bool:
        return self._owner == os.getpid()

    def fork(self, descriptors: tuple[int, int, int], spec: bytes) -> WorkerProcess:
        """Fork a worker with these descriptors; it receives its specification on its socket later."""
        process, me = WorkerProcess(), os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_worker(descriptors, me)
        process.set_started(pid, os.pidfd_open(pid))
        return process

    def wait_started(self, process: WorkerProcess) -> None:
        """Do nothing: fork(2) has returned the process id."""

    def status(self, pid: int) -> int | None:
        """Return the exit status of the worker; ``None`` if it is still running."""
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return status if ended else None

    def dismiss(self, process: WorkerProcess, *, status_known: bool) -> None:
        """Kill a worker whose exit status is not needed, without waiting: the command ends soon."""
        process.dismiss() if self.alive else process.close()


def _become_worker(descriptors: tuple[int, int, int], parent: int) -> None:
    """Run the worker in the forked child; never return to the command's code."""
    code = 70  # EX_SOFTWARE
    try:
        ctypes.CDLL(None).prctl(_PARENT_DIES, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # the command ended before prctl(2): no signal will come
            os._exit(code)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        forget()
        archive = ModuleArchive.installed
        _close_others({0, 1, 2, *descriptors, -1 if archive is None else archive.descriptor})
        gc.freeze()
        gc.enable()
        from aegis.isolation.confine import enter_empty_directory
        from aegis.isolation.worker import confinement
        from aegis.isolation.worker.main import main as work
        from aegis.isolation.worker.preloaded_code import PreloadedFinder

        confinement.kept_finders.append(PreloadedFinder())
        _import_common()
        if archive is not None:
            archive.close()
        os.chdir("/")
        enter_empty_directory()
        work(*descriptors, None, None)
        code = 0
    except BaseException as error:
        os.write(descriptors[2], f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _import_common() -> None:
    """Import modules that most C and Rust guests need, while the command parses its policy."""
    from aegis.host.preview1 import files, system

    del files, system


def _close_others(kept: set[int]) -> None:
    """Close all descriptors except ``kept``; that of the directory listing itself is already closed."""
    for number in {int(name) for name in os.listdir("/proc/self/fd")} - kept:
        try:
            os.close(number)
        except OSError:
            continue


# -- secrets ---------------------------------------------------------------------------------------


def forget() -> None:
    """Overwrite the environment and the command line of this process, except the variables that all workers inherit."""
    environment: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    passed = {name.encode(): environment[name.encode()] for name in PASSED_VARIABLES if name.encode() in environment}
    kept = {*passed, *passed.values()}
    held = [raw for pair in environment.items() for raw in pair if raw not in kept]
    environment.clear()
    environment.update(passed)
    words = [*sys.orig_argv[1:], *sys.argv[1:]]  # distinct objects in both lists
    _forget_wide(sys.argv[1:])
    for raw in held:
        if len(raw) >= _MIN_SECRET_CHARACTERS:
            ctypes.memset(id(raw) + bytes.__basicsize__ - 1, 0, len(raw))
    for word in words:
        _overwrite(word)
    sys.orig_argv[:], sys.argv[:] = [], ["aegis"]
    _forget_stack()


def _overwrite(text: str) -> None:
    """Overwrite the characters of a ``str`` object in place; no code may use it afterwards."""
    if len(text) < _MIN_SECRET_CHARACTERS:
        return
    widest = max(map(ord, text))
    sample = "ab" if widest < 128 else "\xe9a" if widest < 256 else "\u0105a" if widest < 65536 else "\U0001f600a"
    each = 1 if widest < 256 else 2 if widest < 65536 else 4
    start = sys.getsizeof(sample) - (len(sample) + 1) * each
    ctypes.memset(id(text) + start, 0x20, len(text) * each)


def _forget_wide(words: list[str]) -> None:
    """Overwrite the copies in the interpreter's configuration, which are wide-character strings on the C heap.

    Option names without a value are not secret and are skipped. In a freed copy, the allocator has overwritten the
    beginning, so a long word is searched for by its rest.
    """
    secret = {word for word in words if len(word) >= _MIN_SECRET_CHARACTERS and (word[0] != "-" or "=" in word)}
    heap, library = _heap(), ctypes.CDLL(None)
    search: Any = library.wmemchr  # compares whole vectors; memmem(3) takes ten times as long for wide characters
    search.restype, search.argtypes = ctypes.c_size_t, [ctypes.c_size_t, ctypes.c_wchar, ctypes.c_size_t]
    compare: Any = library.memcmp
    compare.argtypes = [ctypes.c_size_t] * 3
    for word in secret - {"run"}:
        wide = word.encode("utf-32-le", "surrogatepass")
        length, sought = len(wide), id(wide) + bytes.__basicsize__ - 1
        lost = _FREED_BYTES if length > 2 * _FREED_BYTES else 0
        rest, first = length - lost, word[lost // _WIDE_BYTES]
        for start, end in heap:
            at, last = start + lost - _WIDE_BYTES, end - rest
            while at < last and (at := search(at + _WIDE_BYTES, first, (last - at) // _WIDE_BYTES)):
                if not compare(at, sought + lost, rest):
                    whole = not compare(at - lost, sought, lost)
                    ctypes.memset(at - lost * whole, 0, rest + lost * whole)
        ctypes.memset(sought, 0, length)


def _heap() -> list[tuple[int, int]]:
    with open("/proc/self/maps", "rb") as maps:
        lines = [line.split() for line in maps if line.rstrip().endswith(b"[heap]")]
    return [(int(low, 16), int(high, 16)) for line in lines for low, high in [line[0].split(b"-")]]


def _forget_stack() -> None:
    """Overwrite the command line and the environment that the kernel stored above the stack."""
    library: Any = ctypes.CDLL(None)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[48])  # arg_start and env_end, proc_pid_stat(5)
    library.clearenv()
    ctypes.memset(start, 0, end - start)
    for name in PASSED_VARIABLES:  # C libraries read these variables too, from copies that setenv(3) makes
        if name in os.environ:
            library.setenv(name.encode(), os.environb[name.encode()], 1)
