"""Worker processes in the parent: starting the fork server, creating workers, keeping some warm, and reusing them."""

from __future__ import annotations

import _socket
import array
import atexit
import contextlib
import os
import select
import struct
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from aegis.errors import AegisError, WorkerCrashed
from aegis.isolation.protocol.channel import CHECK_SECONDS, REGION_BYTES, Channel, ProtocolError, SharedRegion
from aegis.isolation.protocol.packets import ENDED, FORKED, PACKET
from aegis.isolation.protocol.pickled import dumps
from aegis.isolation.protocol.specs import SPEC_SIZE_BYTES, WorkerSpec
from aegis.isolation.worker.importable import PASSED_VARIABLES
from aegis.support.descriptors import above_standard, bare_socket_pair, standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import signal
else:  # the C module behind signal, without its enumerations
    import _signal as signal

__all__ = ["Pool", "Unsupported", "Worker", "fork_server"]

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from aegis.isolation.worker.fork_server import main; main({}, {})"
)
_MAX_STDERR_BYTES = 65536
_FORK_SERVER_SECONDS = 10.0
"""Time for the fork server to start, or to fork a worker."""
_EXIT_SECONDS = 0.05
"""Time for a dying process to end after the kernel closed its sockets."""
_REAP_SECONDS = 2.0
"""Time for a killed process to end, and for the fork server to report its status."""
_NOT_REUSABLE = 1 << 40
"""A number of served sandboxes that exceeds every limit on reuse."""
_ANCILLARY_BYTES = _socket.CMSG_SPACE(struct.calcsize("i"))
"""Room for one descriptor. Not socket.recv_fds(), which ignores its flags in some versions of Python and would block.
"""


class Unsupported(AegisError):
    """Isolation is not supported on this system, or no worker process can be started."""

    blame = "embedder"
    kind = "policy-error"


class WorkerFactory(Protocol):
    """Creates worker processes: a fork server, or this process itself."""

    @property
    def alive(self) -> bool: ...
    def fork(self, descriptors: tuple[int, int, int], spec: bytes) -> WorkerProcess: ...
    def wait_started(self, process: WorkerProcess) -> None: ...
    def status(self, pid: int) -> int | None: ...
    def dismiss(self, process: WorkerProcess, *, status_known: bool) -> None: ...


class Worker:
    """One worker process: its channel, the socket for cancellations, its standard error, and how it ended."""

    def __init__(self, server: WorkerFactory, spec: bytes) -> None:
        with standard_reserved():
            self._make(server, spec)

    def _make(self, server: WorkerFactory, spec: bytes) -> None:
        self._server = server
        with contextlib.ExitStack() as undo:
            try:
                near, far = bare_socket_pair()
                undo.callback(near.close), undo.callback(far.close)
                near_cancel, far_cancel = bare_socket_pair()
                undo.callback(near_cancel.close), undo.callback(far_cancel.close)
                self._stderr = os.memfd_create("aegis-stderr", os.MFD_CLOEXEC)
                undo.callback(os.close, self._stderr)
                self.shared = SharedRegion.new(REGION_BYTES)
                undo.callback(os.close, self.shared)
            except OSError as error:  # too many open descriptors
                raise Unsupported(f"no worker process can be started: {error.strerror}") from None
            self._process = server.fork((far.fileno(), far_cancel.fileno(), self._stderr), spec)
            undo.pop_all()
        far.close()
        far_cancel.close()
        self.cancel_socket = near_cancel
        near_cancel.setblocking(False)
        self.channel = Channel(near, *SharedRegion.pair(self.shared, REGION_BYTES, parent=True))
        self.served = 0
        self._status: int | None = None
        self._killed = self._hung_up = False
        self._closed = False

    @property
    def pid(self) -> int:
        """The process id; 0 if the process could not be created. Waits for the fork server to report it."""
        self._server.wait_started(self._process)
        return self._process.pid

    def is_idle(self) -> bool:
        """Return whether the worker is alive and has sent nothing."""
        try:
            self.channel.socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._server.alive
        except OSError:
            pass
        return False

    def cancel(self) -> None:
        """Request that the worker end its call. The request may arrive after the call, so the worker is not reused."""
        self.served = _NOT_REUSABLE
        with contextlib.suppress(OSError):
            self.cancel_socket.send(b"c")

    def kill(self) -> None:
        """Kill the process."""
        if self.pid:
            self._killed = True
            self._process.kill()

    def crashed(self) -> WorkerCrashed:
        """Kill the worker unless it is dead or dying; return the error that says how it ended."""
        if not self.pid:
            return WorkerCrashed("no worker process could be made: the system has no room for one more", signal=0)
        if self._status is None:
            # A worker that was killed here did not hang up, however long the kernel takes to end it.
            self._hung_up = not self._process.ends_within(_EXIT_SECONDS) and not self._killed
            self._process.kill()
            self._process.ends_within(_REAP_SECONDS)
            self._status = self._server.status(self.pid)
        status, text_on_stderr = self._status, self.stderr_text()
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0
        if self._hung_up and number == signal.SIGKILL:
            return WorkerCrashed("the worker process closed its connection and went on: it was killed", signal=0)
        if number:
            text = f"the worker process died of signal {number} ({_signal_name(number)})"
        elif status is None:
            text = "the worker process does not answer"
        else:
            text = f"the worker process ended by itself, with code {os.WEXITSTATUS(status)}"
        last = text_on_stderr.strip().splitlines()[-1:]
        return WorkerCrashed(f"{text}{': ' + last[0][:300] if last else ''}", signal=number)

    def starved(self, crash: WorkerCrashed) -> bool:
        """Return whether the worker died because the engine's allocator failed, which aborts the process (F39)."""
        return crash.signal == signal.SIGABRT and b"memory allocation" in self._stderr_bytes()

    def stderr_text(self) -> str:
        """Return the last lines of the worker's standard error, escaped: native code reports fatal errors there."""
        from aegis.text import printable

        lines = self._stderr_bytes().splitlines()[-20:]
        return "\n".join(printable(line.decode("utf-8", "replace"), 1000) for line in lines)

    def _stderr_bytes(self) -> bytes:
        return os.pread(self._stderr, _MAX_STDERR_BYTES, 0) if self._stderr >= 0 else b""

    def discard(self) -> None:
        """Kill the worker and close its descriptors; do nothing if that is already done."""
        if not self._closed:
            self._closed = True
            self._server.dismiss(self._process, status_known=self._status is not None)
            self.channel.close()
            self.cancel_socket.close()
            os.close(self._stderr)
            os.close(self.shared)
            self._stderr = -1


def _signal_name(number: int) -> str:
    try:
        import signal as named

        return named.Signals(number).name
    except ValueError:
        return "unknown"


class WorkerProcess:
    """A process requested from the fork server. ``pid`` is 0 until the server reports it, and if the fork failed."""

    def __init__(self) -> None:
        self.started = self.unwanted = False
        self.pid = 0
        self._handle = -1

    def set_started(self, pid: int, handle: int) -> None:
        """Store the process id and process descriptor that the fork server reported; -1 if it sent no descriptor."""
        self.pid, self._handle, self.started = pid, handle, True
        if self.unwanted:
            self.unwanted = False
            self.dismiss()

    def kill(self) -> None:
        """Kill the process. A process descriptor never refers to another process, unlike a reused process id."""
        with contextlib.suppress(OSError):
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif self.pid and not self.unwanted:  # this process could not receive one more descriptor
                os.kill(self.pid, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the process to end; return whether it did."""
        if self._handle < 0:
            return False
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def dismiss(self) -> None:
        """Kill the process now, or as soon as the fork server reports it, and close its descriptor."""
        self.kill()
        self.unwanted = True
        self.close()

    def close(self) -> None:
        """Close the process descriptor."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class ForkServerProcess:
    """The fork server as its parent sees it. A process needs a single one, started before its first worker."""

    def __init__(self, stack: int) -> None:
        with standard_reserved():
            self._launch(stack)

    def _launch(self, stack: int) -> None:
        import json  # not at import time: a command that forks its worker itself needs neither module
        import subprocess

        from aegis.sandbox.protected_paths import import_folders

        if sys.platform != "linux" or not hasattr(os, "pidfd_open") or not hasattr(os, "memfd_create"):
            raise Unsupported("isolation needs Linux 5.3 or later: run without --isolate, or in a virtual machine")
        if not sys.executable:
            raise Unsupported("isolation needs the path of the Python interpreter: set sys.executable to it")
        near, far = bare_socket_pair(packets=True)
        environment = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
        command = [
            sys.executable,
            "-I",
            "-c",
            _START.format(far.fileno(), stack),
            json.dumps(import_folders()),
        ]
        try:
            self._process = subprocess.Popen(
                command, pass_fds=(far.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if not os.environ.get("AEGIS_FORK_SERVER_STDERR") else None,
                start_new_session=True, env=environment, cwd="/",
            )  # fmt: skip
        except OSError as error:
            near.close()
            raise Unsupported(f"no worker process can be started: {error.strerror}") from None
        finally:
            far.close()
        self._control = near
        # Sending has a timeout of the socket; receiving never blocks, see _drain.
        near.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("@ll", int(_FORK_SERVER_SECONDS), 0))
        self._lock = threading.RLock()  # reentrant: the garbage collector may discard a worker at any point
        self._pending: deque[WorkerProcess] = deque()
        """Requested processes that the server has not reported yet, in the order of the requests."""
        self._ended: dict[int, int] = {}
        """Exit statuses by process id."""
        self._forgotten: set[int] = set()
        """Process ids whose exit status is not needed."""
        self._imported: set[str] = set()
        self._owner = os.getpid()

    @property
    def alive(self) -> bool:
        """Whether this process can get workers from the server."""
        return self._owner == os.getpid() and self._control.fileno() >= 0 and self._process.poll() is None

    def fork(self, descriptors: tuple[int, int, int], spec: bytes) -> WorkerProcess:
        """Request a worker with the pickled ``WorkerSpec``; raise :class:`Unsupported` if the server is gone."""
        process = WorkerProcess()
        with self._lock:
            try:
                rights = array.array("i", descriptors)
                self._control.sendmsg([b"F" + spec], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            except OSError as error:
                raise Unsupported(f"no worker process can be started: {error}") from None
            self._pending.append(process)
        return process

    def wait_started(self, process: WorkerProcess) -> None:
        """Wait until the server reports the process."""
        self._wait(lambda: process.started, _FORK_SERVER_SECONDS)

    def _store_report(self, message: bytes, descriptors: list[int]) -> None:
        """Store a report of the server: a process that started or ended."""
        if message[:1] == b"P":
            handle = above_standard(descriptors[0]) if descriptors else -1
            process, pid = self._pending.popleft(), int(FORKED.unpack(message)[1])
            process.set_started(pid, handle)
            if process.unwanted and pid:
                self._forgotten.add(pid)
            return
        _, pid, status = ENDED.unpack(message)
        if pid in self._forgotten:
            self._forgotten.discard(pid)
        else:
            self._ended[pid] = status

    def load(self, modules: Iterable[str]) -> None:
        """Have workers made from now on find these modules imported."""
        wanted = [name for name in modules if name not in self._imported]
        if wanted:
            with self._lock, contextlib.suppress(OSError):
                self._imported.update(wanted)
                self._control.send(b"I" + " ".join(wanted).encode())

    def status(self, pid: int) -> int | None:
        """Return the exit status of a worker; ``None`` if the server does not report it in time."""
        self._wait(lambda: pid in self._ended, _REAP_SECONDS)
        with self._lock:
            return self._ended.pop(pid, None)

    def _wait(self, happened: Callable[[], bool], seconds: float) -> None:
        """Store reports of the server until ``happened`` returns ``True``, the server ends, or ``seconds`` have passed.

        Does not hold the lock while waiting.
        """
        until = time.monotonic() + seconds
        while not happened() and time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                poller = select.poll()
                poller.register(self._control, select.POLLIN)
                poller.poll(CHECK_SECONDS * 1000)
            with self._lock:
                if not self._drain():
                    return

    def _drain(self) -> bool:
        """Store the reports that have arrived; return whether the server is still running."""
        try:
            while (received := self._control.recvmsg(PACKET, _ANCILLARY_BYTES, _socket.MSG_DONTWAIT))[0]:
                self._store_report(
                    received[0], [number for _, _, raw in received[1] for number in array.array("i", raw)]
                )
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def dismiss(self, process: WorkerProcess, *, status_known: bool) -> None:
        """Kill a worker whose exit status is not needed; ``status_known``: it was already returned."""
        if self._owner != os.getpid():
            process.close()
            return
        with self._lock:
            self._drain()
            process.dismiss()
            if process.pid and not status_known and self._ended.pop(process.pid, None) is None:
                self._forgotten.add(process.pid)

    def close(self) -> None:
        """End the server and with it every worker: the kernel kills them when their parent ends (PR_SET_PDEATHSIG)."""
        self._control.close()
        if self._owner == os.getpid():
            from subprocess import TimeoutExpired

            self._process.kill()
            with contextlib.suppress(TimeoutExpired):
                self._process.wait(_FORK_SERVER_SECONDS)


_fork_server: ForkServerProcess | None = None
_start = threading.Lock()


def fork_server(stack: int) -> ForkServerProcess:
    """Return the fork server of this process; start one if there is none or it has ended."""
    global _fork_server
    with _start:
        if _fork_server is None or not _fork_server.alive:
            if _fork_server is not None:
                _fork_server.close()
            _fork_server = ForkServerProcess(stack)
        return _fork_server


def _at_exit() -> None:
    """End the fork server, and its workers with it."""
    if _fork_server is not None and _fork_server._owner == os.getpid():
        _fork_server.close()


atexit.register(_at_exit)


def _in_child() -> None:
    """Forget the fork server in a forked child of the application, which starts its own when it needs one."""
    global _fork_server, _start
    _start = threading.Lock()
    if _fork_server is not None:
        _fork_server._control.close()
        _fork_server = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Pool:
    """The workers of one runtime: warm ones, which have served no sandbox, and used ones, which may serve again.

    A used worker stays confined as for its first sandbox, so it serves only sandboxes with the same *reuse key*.
    """

    def __init__(self, stack: int, size: int, recycle: int, spec: WorkerSpec, first: Worker | None = None) -> None:
        self._stack, self._size, self._recycle = stack, size, recycle
        self._spec = dumps(spec)
        self._lock = threading.RLock()
        self._closed = False
        self._warm: list[Worker] = []
        self._used: dict[str, list[Worker]] = {}
        self._owner = os.getpid()
        self._first = first
        if first is not None:
            first.channel.socket.sendall(len(self._spec).to_bytes(SPEC_SIZE_BYTES, "little") + self._spec)
        # A finalizer, because sockets that the garbage collector finds open cause a ResourceWarning.
        weakref.finalize(self, _discard_all, self._warm, self._used)
        self.refill()

    def refill(self) -> None:
        """Create warm workers up to the pool's size."""
        if self._owner != os.getpid():
            self._warm.clear()
            self._used.clear()
            self._owner = os.getpid()
        while not self._closed and len(self._warm) < self._size:
            made = Worker(fork_server(self._stack), self._spec)
            with self._lock:
                self._warm.append(made)

    def take_first(self) -> Worker | None:
        """Return the worker that this process forked itself, once; it serves the first sandbox."""
        worker, self._first = self._first, None
        return worker

    def take(self) -> Worker:
        """Return a worker that has served no sandbox, a warm one if available."""
        if self._owner == os.getpid():
            with self._lock:
                while self._warm:
                    worker = self._warm.pop(0)
                    if worker.is_idle():
                        return worker
                    worker.discard()
        return Worker(fork_server(self._stack), self._spec)

    def take_used(self, reuse_key: str | None) -> Worker | None:
        """Return a used worker with this reuse key, or ``None``."""
        if reuse_key is None or self._owner != os.getpid():
            return None
        with self._lock:
            while kept := self._used.get(reuse_key):
                worker = kept.pop()
                if not kept:
                    del self._used[reuse_key]
                if worker.is_idle():
                    return worker
                worker.discard()
        return None

    def give(self, worker: Worker, reuse_key: str | None, *, clean: bool) -> None:
        """Take back a worker whose sandbox ended: keep it for sandboxes with its reuse key, or discard it."""
        worker.served += 1
        if clean and reuse_key is not None and worker.served <= self._recycle and self._keep(worker, reuse_key):
            return
        worker.discard()

    def _keep(self, worker: Worker, reuse_key: str) -> bool:
        """Keep a used worker; if there are then more than the pool's size, discard the least recently used one."""
        evicted = None
        with self._lock:
            if self._closed:
                return False
            kept = self._used.pop(reuse_key, [])
            self._used[reuse_key] = [*kept, worker]  # moved to the end: dictionaries keep insertion order
            if sum(map(len, self._used.values())) > max(self._size, 1):
                oldest = next(iter(self._used))
                evicted = self._used[oldest].pop(0)
                if not self._used[oldest]:
                    del self._used[oldest]
        if evicted is not None:
            evicted.discard()
        return True

    def load(self, modules: Iterable[str]) -> None:
        """Have workers made from now on find these modules imported."""
        fork_server(self._stack).load(modules)

    def __len__(self) -> int:
        return len(self._warm)

    def close(self) -> None:
        """Discard every worker in the pool."""
        with self._lock:
            self._closed = True
            _discard_all(self._warm, self._used)
            if self._first is not None:
                self._first.discard()


def _discard_all(warm: list[Worker], used: dict[str, list[Worker]]) -> None:
    for worker in [*warm, *(w for kept in used.values() for w in kept)]:
        worker.discard()
    warm.clear()
    used.clear()


def expect(message: Any, kind: str) -> Any:
    """Return the fields of a message of this kind; raise :class:`ProtocolError` for another."""
    if not isinstance(message, list) or not message or message[0] != kind:
        raise ProtocolError(f"unexpected message instead of {kind}")
    return message[1:]
