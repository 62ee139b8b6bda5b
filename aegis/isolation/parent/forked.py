"""A worker that a command forks from itself, before it has a second thread, and before it has read anything.

``aegis run --isolate`` needs one worker, and a fork server takes longer to start than the rest of the run. What a fork
of the command has, and a fork of a fork server has not, the child gives up before anything else:

* the environment and the words of the command line, which hold secrets: their bytes are overwritten where the kernel
  put them, in Python's objects, and in the copies that its start made. Nothing else has read them by then: the command
  forks before it sorts its words, reads a policy, or opens its cache;
* open files: all but the worker's own sockets are closed, standard streams among them;
* the terminal: the child is in a session of its own, and Ctrl-C is the command's;
* modules: it has those that were imported so far, and the code of the others
(:mod:`aegis.isolation.worker.code_shelf`).

One thing stays: the command and its worker have the same layout of memory and the same seed for hashes, which a fork
server has for itself and its workers. A worker that was taken over knows where things lie in the command.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from aegis.isolation.parent.pool import Birth, Worker
from aegis.isolation.worker.reserve import PASSED
from aegis.support.lean import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
else:  # what the module signal wraps, without its enumerations
    import _signal as signal

__all__ = ["fork_worker", "take_forked"]

_PARENT_DIES = 1  # PR_SET_PDEATHSIG
_LEAST_CHARACTERS = 2
"""Shorter texts are objects that all of Python shares."""
_FREED_BYTES = 32
"""What malloc keeps in a block that was freed: two links, or four in a large one."""
_waiting: list[Worker] = []


def fork_worker() -> None:
    """Fork the worker of this command, where that can be done; :func:`take_forked` returns it.

    Where modules are looked for in the working directory, by the name "", CPython 3.13.0 asks where that is whenever a
    module lacks an attribute, and fails in a worker, whose directory is deleted.
    """
    if "" in sys.path:
        return
    if sys.platform == "linux" and hasattr(os, "pidfd_open") and threading.active_count() == 1:
        # Where it is ignored, which exec passes on, the kernel discards how children end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _waiting.append(Worker(_Forked(), b""))


def take_forked() -> Worker | None:
    """Return the worker that waits, once."""
    return _waiting.pop() if _waiting and _waiting[0].waits() else None


class _Forked:
    """Stands for the fork server of one worker, which this process is."""

    def __init__(self) -> None:
        self._owner = os.getpid()

    @property
    def alive(self) -> bool:
        return self._owner == os.getpid()

    def fork(self, descriptors: tuple[int, int, int], brief: bytes) -> Birth:
        """Fork a worker with these descriptors; its brief is its first message."""
        birth, me = Birth(), os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_worker(descriptors, me)
        birth.note(pid, os.pidfd_open(pid))
        return birth

    def born(self, birth: Birth) -> None:
        """Wait for nothing: a process that was forked here has its number."""

    def status(self, pid: int) -> int | None:
        """Return the status of a worker that died; ``None`` for one that did not."""
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return status if ended else None

    def dismiss(self, birth: Birth, *, told: bool) -> None:
        """End a worker whose end interests nobody. The command ends soon, so nothing waits for that."""
        birth.dismiss() if self.alive else birth.close()


def _become_worker(descriptors: tuple[int, int, int], parent: int) -> None:
    """In the child: never return to the command's code."""
    code = 70
    try:
        ctypes.CDLL(None).prctl(_PARENT_DIES, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(code)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        forget()
        _close_others({0, 1, 2, *descriptors})
        gc.freeze()
        gc.enable()
        from aegis.isolation.confine import enter_empty_directory
        from aegis.isolation.worker import confinement
        from aegis.isolation.worker.code_shelf import Shelf
        from aegis.isolation.worker.main import main as work

        confinement.kept_imports.append(Shelf())
        _import_common()
        os.chdir("/")
        enter_empty_directory()
        work(*descriptors, None, None)
        code = 0
    except BaseException as error:
        os.write(descriptors[2], f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _import_common() -> None:
    """Import what most guests of C and Rust need, while the command makes its policy."""
    from aegis.host.preview1 import files, system

    del files, system


def _close_others(kept: set[int]) -> None:
    """Close every descriptor but those; the listing has one of its own, which is closed by then."""
    for number in {int(name) for name in os.listdir("/proc/self/fd")} - kept:
        try:
            os.close(number)
        except OSError:
            continue


# -- forgetting ------------------------------------------------------------------------------------


def forget() -> None:
    """Overwrite the environment and the command line of this process, but for what every worker is passed."""
    environment: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    passed = {name.encode(): environment[name.encode()] for name in PASSED if name.encode() in environment}
    kept = {*passed, *passed.values()}
    held = [raw for pair in environment.items() for raw in pair if raw not in kept]
    environment.clear()
    environment.update(passed)
    words = [*sys.orig_argv[1:], *sys.argv[1:]]  # as the system gave them, each an object of its own
    _forget_wide(sys.argv[1:])
    for raw in held:
        if len(raw) >= _LEAST_CHARACTERS:
            ctypes.memset(id(raw) + bytes.__basicsize__ - 1, 0, len(raw))
    for word in words:
        _overwrite(word)
    sys.orig_argv[:], sys.argv[:] = [], ["aegis"]
    _forget_stack()


def _overwrite(text: str) -> None:
    """Overwrite the characters of a text that nothing will read any more."""
    if len(text) < _LEAST_CHARACTERS:
        return
    widest = max(map(ord, text))
    sample = "ab" if widest < 128 else "\xe9a" if widest < 256 else "\u0105a" if widest < 65536 else "\U0001f600a"
    each = 1 if widest < 256 else 2 if widest < 65536 else 4
    start = sys.getsizeof(sample) - (len(sample) + 1) * each
    ctypes.memset(id(text) + start, 0x20, len(text) * each)


def _forget_wide(words: list[str]) -> None:
    """Overwrite the copies that the interpreter's configuration holds, as wide characters, on the heap of C.

    The words of an option's name alone say nothing, and each search goes through megabytes.
    """
    search: Any = ctypes.CDLL(None).memmem
    search.restype, search.argtypes = ctypes.c_size_t, [ctypes.c_size_t] * 2 + [ctypes.c_char_p, ctypes.c_size_t]
    secret = {word for word in words if len(word) >= _LEAST_CHARACTERS and (word[0] != "-" or "=" in word)}
    for start, end in _heap():
        for word in secret - {"run"}:
            wide = word.encode("utf-32-le", "surrogatepass")
            # Of a copy that was freed the allocator has overwritten the beginning.
            for sought in (wide, wide[_FREED_BYTES:]) if len(wide) > 2 * _FREED_BYTES else (wide,):
                at = start
                while at := search(at, end - at, sought, len(sought)):
                    ctypes.memset(at, 0, len(sought))
                    at += len(sought)


def _heap() -> list[tuple[int, int]]:
    with open("/proc/self/maps", "rb") as maps:
        lines = [line.split() for line in maps if line.rstrip().endswith(b"[heap]")]
    return [(int(low, 16), int(high, 16)) for line in lines for low, high in [line[0].split(b"-")]]


def _forget_stack() -> None:
    """Overwrite what the kernel put above the stack: the command line, and behind it the environment."""
    library: Any = ctypes.CDLL(None)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[48])  # arg_start and env_end, proc_pid_stat(5)
    library.clearenv()
    ctypes.memset(start, 0, end - start)
    for name in PASSED:  # C reads them too, of its own copies
        if name in os.environ:
            library.setenv(name.encode(), os.environb[name.encode()], 1)
