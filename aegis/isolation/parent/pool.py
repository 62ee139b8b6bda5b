"""Workers, seen from the parent: the fork server that makes them, and those that are kept warm."""

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
from aegis.isolation.protocol.channel import LOOK, Broken, Channel, Region
from aegis.isolation.protocol.packets import ENDED, FORKED, PACKET
from aegis.isolation.protocol.pickled import dumps
from aegis.isolation.protocol.setup import Brief
from aegis.isolation.worker.reserve import PASSED
from aegis.limits import MIB
from aegis.support.descriptors import above_standard, bare_socket_pair, standard_reserved
from aegis.support.lean import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import signal
else:  # what the module signal wraps, without its enumerations
    import _signal as signal

__all__ = ["Pool", "Unsupported", "Worker", "zygote"]

REGION = 256 * MIB
"""Bytes of shared memory for each direction; only what is used takes memory."""
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from aegis.isolation.worker.fork_server import main; main({}, {})"
)
BRIEF_SIZE_BYTES = 4
_SAID = 65536
_PATIENCE = 10.0
"""Seconds for the fork server to start, or to make a worker."""
_DYING = 0.05
"""Seconds within which a process that closed its sockets because it dies is dead."""
_REAPING = 2.0
"""Seconds for a killed process to end, and for the fork server to tell how."""
_NEVER_AGAIN = 1 << 40
_ROOM = _socket.CMSG_SPACE(struct.calcsize("i"))
"""For one descriptor. socket.recv_fds() of some versions of Python ignores its flags, and would wait."""


class Unsupported(AegisError):
    """Isolation needs what this system has not."""

    blame = "embedder"
    kind = "policy-error"


class Server(Protocol):
    """What makes workers: a fork server, or this process itself."""

    @property
    def alive(self) -> bool: ...
    def fork(self, descriptors: tuple[int, int, int], brief: bytes) -> Birth: ...
    def born(self, birth: Birth) -> None: ...
    def status(self, pid: int) -> int | None: ...
    def dismiss(self, birth: Birth, *, told: bool) -> None: ...


class Worker:
    """One worker process: where it is talked to, where it is cancelled, and how it ended."""

    def __init__(self, server: Server, brief: bytes) -> None:
        with standard_reserved():
            self._make(server, brief)

    def _make(self, server: Server, brief: bytes) -> None:
        self._server = server
        with contextlib.ExitStack() as undo:
            try:
                near, far = bare_socket_pair()
                undo.callback(near.close), undo.callback(far.close)
                near_cancel, far_cancel = bare_socket_pair()
                undo.callback(near_cancel.close), undo.callback(far_cancel.close)
                self._said = os.memfd_create("aegis-stderr", os.MFD_CLOEXEC)
                undo.callback(os.close, self._said)
                self.shared = Region.new(REGION)
                undo.callback(os.close, self.shared)
            except OSError as error:  # no room for more descriptors
                raise Unsupported(f"no worker process can be started: {error.strerror}") from None
            self._birth = server.fork((far.fileno(), far_cancel.fileno(), self._said), brief)
            undo.pop_all()
        far.close()
        far_cancel.close()
        self.cancel_socket = near_cancel
        near_cancel.setblocking(False)
        self.channel = Channel(near, *Region.pair(self.shared, REGION, parent=True))
        self.served = 0
        self._status: int | None = None
        self._killed = self._hung_up = False
        self._closed = False

    @property
    def pid(self) -> int:
        """The number of the process; 0 for one that could not be made."""
        self._server.born(self._birth)
        return self._birth.pid

    def waits(self) -> bool:
        """Tell whether it is there, with nothing said and nothing to say."""
        try:
            self.channel.socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self._server.alive
        except OSError:
            pass
        return False

    def cancel(self) -> None:
        """Ask the worker to end its call. The request may reach it later than the call's end, so it serves no other."""
        self.served = _NEVER_AGAIN
        with contextlib.suppress(OSError):
            self.cancel_socket.send(b"c")

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        if self.pid:
            self._killed = True
            self._birth.kill()

    def crashed(self) -> WorkerCrashed:
        """Kill the worker unless it is dead or dies by itself at this moment, and return how it died."""
        if not self.pid:
            return WorkerCrashed("no worker process could be made: the system has no room for one more", signal=0)
        if self._status is None:
            # One that was killed here did not hang up, however long the kernel takes to end it.
            self._hung_up = not self._birth.ends_within(_DYING) and not self._killed
            self._birth.kill()
            self._birth.ends_within(_REAPING)
            self._status = self._server.status(self.pid)
        status, said = self._status, self.said()
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0
        if self._hung_up and number == signal.SIGKILL:
            return WorkerCrashed("the worker process closed its connection and went on: it was killed", signal=0)
        if number:
            text = f"the worker process died of signal {number} ({_signal_name(number)})"
        elif status is None:
            text = "the worker process does not answer"
        else:
            text = f"the worker process ended by itself, with code {os.WEXITSTATUS(status)}"
        last = said.strip().splitlines()[-1:] if said else []
        return WorkerCrashed(f"{text}{': ' + last[0][:300] if last else ''}", signal=number)

    def starved(self, crash: WorkerCrashed) -> bool:
        """Tell whether it died because the engine's allocator got no more memory: that aborts (F39)."""
        return crash.signal == signal.SIGABRT and "memory allocation" in self.said()

    def said(self) -> str:
        """Return what the process wrote to its standard error, escaped: native code's last words."""
        from aegis.text import printable

        raw = os.pread(self._said, _SAID, 0) if self._said >= 0 else b""
        return "\n".join(printable(line.decode("utf-8", "replace"), 1000) for line in raw.splitlines()[-20:])

    def discard(self) -> None:
        """Kill it and let go of everything; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._server.dismiss(self._birth, told=self._status is not None)
            self.channel.close()
            self.cancel_socket.close()
            os.close(self._said)
            os.close(self.shared)
            self._said = -1


def _signal_name(number: int) -> str:
    try:
        import signal as named

        return named.Signals(number).name
    except ValueError:
        return "unknown"


class Birth:
    """A process that the fork server was asked for: its number once it is told, 0 where none could be made."""

    def __init__(self) -> None:
        self.told = self.unwanted = False
        self.pid = 0
        self._handle = -1

    def note(self, pid: int, handle: int) -> None:
        """Take over what the fork server told."""
        self.pid, self._handle, self.told = pid, handle, True
        if self.unwanted:
            self.unwanted = False
            self.dismiss()

    def kill(self) -> None:
        """End the process at once. A process descriptor never means another process."""
        with contextlib.suppress(OSError):
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            elif self.pid and not self.unwanted:  # this process had no room for one more descriptor
                os.kill(self.pid, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the process; tell whether it came."""
        if self._handle < 0:
            return False
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def dismiss(self) -> None:
        """End the process as soon as it is known, and forget it."""
        self.kill()
        self.unwanted = True
        self.close()

    def close(self) -> None:
        """Close the process descriptor."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class Zygote:
    """The fork server's process. One is enough for a process; it is started before its first worker."""

    def __init__(self, stack: int) -> None:
        with standard_reserved():
            self._launch(stack)

    def _launch(self, stack: int) -> None:
        import json  # a command that forks its worker itself comes without both
        import subprocess

        from aegis.sandbox.protected_paths import import_folders

        if sys.platform != "linux" or not hasattr(os, "pidfd_open") or not hasattr(os, "memfd_create"):
            raise Unsupported("isolation needs Linux 5.3 or later; run without --isolate, or in a virtual machine")
        if not sys.executable:
            raise Unsupported("isolation needs the path of the Python interpreter; set sys.executable to it")
        near, far = bare_socket_pair(packets=True)
        environment = {name: os.environ[name] for name in PASSED if name in os.environ}
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
                stderr=subprocess.DEVNULL if not os.environ.get("AEGIS_ZYGOTE_STDERR") else None,
                start_new_session=True, env=environment, cwd="/",
            )  # fmt: skip
        except OSError as error:
            near.close()
            raise Unsupported(f"no worker process can be started: {error.strerror}") from None
        finally:
            far.close()
        self._control = near
        # The system keeps the time of what is sent; what is received is asked for without waiting.
        near.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("@ll", int(_PATIENCE), 0))
        self._lock = threading.RLock()  # the collector may end a worker in the middle of anything
        self._births: deque[Birth] = deque()
        """Workers whose numbers the server did not tell yet, in the order of asking."""
        self._ended: dict[int, int] = {}
        self._forgotten: set[int] = set()
        self._imported: set[str] = set()
        self._owner = os.getpid()

    @property
    def alive(self) -> bool:
        """Whether workers can be had of it, in this process."""
        return self._owner == os.getpid() and self._control.fileno() >= 0 and self._process.poll() is None

    def fork(self, descriptors: tuple[int, int, int], brief: bytes) -> Birth:
        """Ask for a worker that is told ``brief``; raise :class:`Unsupported` when none can be had."""
        birth = Birth()
        with self._lock:
            try:
                rights = array.array("i", descriptors)
                self._control.sendmsg([b"F" + brief], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            except OSError as error:
                raise Unsupported(f"no worker process can be started: {error}") from None
            self._births.append(birth)
        return birth

    def born(self, birth: Birth) -> None:
        """Wait until the server told which process it made."""
        self._wait(lambda: birth.told, _PATIENCE)

    def _note(self, message: bytes, descriptors: list[int]) -> None:
        """Remember what the server told."""
        if message[:1] == b"P":
            handle = above_standard(descriptors[0]) if descriptors else -1
            birth, pid = self._births.popleft(), int(FORKED.unpack(message)[1])
            birth.note(pid, handle)
            if birth.unwanted and pid:
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
        """Return the status of a worker that died; ``None`` if the server does not tell it."""
        self._wait(lambda: pid in self._ended, _REAPING)
        with self._lock:
            return self._ended.pop(pid, None)

    def _wait(self, happened: Callable[[], bool], seconds: float) -> None:
        """Take what the server tells until something happened, the server ended, or time is up.

        The lock is free meanwhile.
        """
        until = time.monotonic() + seconds
        while not happened() and time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                poller = select.poll()
                poller.register(self._control, select.POLLIN)
                poller.poll(LOOK * 1000)
            with self._lock:
                if not self._drain():
                    return

    def _drain(self) -> bool:
        """Take what the server told by now; return whether it is there."""
        try:
            while (received := self._control.recvmsg(PACKET, _ROOM, _socket.MSG_DONTWAIT))[0]:
                self._note(received[0], [number for _, _, raw in received[1] for number in array.array("i", raw)])
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def dismiss(self, birth: Birth, *, told: bool) -> None:
        """End a worker whose end interests nobody; ``told``: how it ended was asked already."""
        if self._owner != os.getpid():
            birth.close()
            return
        with self._lock:
            self._drain()
            birth.dismiss()
            if birth.pid and not told and self._ended.pop(birth.pid, None) is None:
                self._forgotten.add(birth.pid)

    def close(self) -> None:
        """End the server, and with it every worker: the kernel kills those when their parent ends."""
        self._control.close()
        if self._owner == os.getpid():
            from subprocess import TimeoutExpired

            self._process.kill()
            with contextlib.suppress(TimeoutExpired):
                self._process.wait(_PATIENCE)


_zygote: Zygote | None = None
_start = threading.Lock()


def zygote(stack: int) -> Zygote:
    """Return the process's fork server, a new one if it has none or lost it."""
    global _zygote
    with _start:
        if _zygote is None or not _zygote.alive:
            if _zygote is not None:
                _zygote.close()
            _zygote = Zygote(stack)
        return _zygote


def _at_exit() -> None:
    """End the fork server in order: its workers end with it."""
    if _zygote is not None and _zygote._owner == os.getpid():
        _zygote.close()


atexit.register(_at_exit)


def _in_child() -> None:
    """A fork of the application has no fork server: it makes its own when it needs one."""
    global _zygote, _start
    _start = threading.Lock()
    if _zygote is not None:
        _zygote._control.close()
        _zygote = None


os.register_at_fork(after_in_child=_in_child) if hasattr(os, "register_at_fork") else None


class Pool:
    """Warm workers for the sandboxes of one runtime, and those that served and may serve again.

    Those are of one *line*, as its owner says: whatever sandbox of it comes next, the worker's doors fit.
    """

    def __init__(self, stack: int, size: int, recycle: int, brief: Brief, first: Worker | None = None) -> None:
        self._stack, self._size, self._recycle = stack, size, recycle
        self._brief = dumps(brief)
        self._lock = threading.RLock()
        self._closed = False
        self._warm: list[Worker] = []
        self._used: dict[str, list[Worker]] = {}
        self._owner = os.getpid()
        self._first = first
        if first is not None:
            first.channel.socket.sendall(len(self._brief).to_bytes(BRIEF_SIZE_BYTES, "little") + self._brief)
        # Before the collector ends what it refers to: a socket that it finds open is reported.
        weakref.finalize(self, _discard_all, self._warm, self._used)
        self.refill()

    def refill(self) -> None:
        """Make warm workers up to the pool's size."""
        if self._owner != os.getpid():
            self._warm.clear()
            self._used.clear()
            self._owner = os.getpid()
        while not self._closed and len(self._warm) < self._size:
            made = Worker(zygote(self._stack), self._brief)
            with self._lock:
                self._warm.append(made)

    def take_first(self) -> Worker | None:
        """Return the worker that this process forked itself, for the first sandbox."""
        worker, self._first = self._first, None
        return worker

    def take(self) -> Worker:
        """Return a fresh worker, a warm one if there is."""
        if self._owner == os.getpid():
            with self._lock:
                while self._warm:
                    worker = self._warm.pop(0)
                    if worker.waits():
                        return worker
                    worker.discard()
        return Worker(zygote(self._stack), self._brief)

    def take_used(self, line: str | None) -> Worker | None:
        """Return a worker that may serve one more sandbox of this line."""
        if line is None or self._owner != os.getpid():
            return None
        with self._lock:
            while kept := self._used.get(line):
                worker = kept.pop()
                if not kept:
                    del self._used[line]
                if worker.waits():
                    return worker
                worker.discard()
        return None

    def give(self, worker: Worker, line: str | None, *, clean: bool) -> None:
        """Take back a worker whose sandbox ended: keep it for others of its line, or end it."""
        worker.served += 1
        if clean and line is not None and worker.served <= self._recycle and self._keep(worker, line):
            return
        worker.discard()

    def _keep(self, worker: Worker, line: str) -> bool:
        """Keep a worker; of all lines together no more than the pool's size, the longest unused goes."""
        gone = None
        with self._lock:
            if self._closed:
                return False
            kept = self._used.pop(line, [])
            self._used[line] = [*kept, worker]  # the line used last is the last
            if sum(map(len, self._used.values())) > max(self._size, 1):
                oldest = next(iter(self._used))
                gone = self._used[oldest].pop(0)
                if not self._used[oldest]:
                    del self._used[oldest]
        if gone is not None:
            gone.discard()
        return True

    def load(self, modules: Iterable[str]) -> None:
        """Have workers made from now on find these modules imported."""
        zygote(self._stack).load(modules)

    def __len__(self) -> int:
        return len(self._warm)

    def close(self) -> None:
        """End every worker that waits."""
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
    """Return what a message of this kind says; raise :class:`Broken` for another."""
    if not isinstance(message, list) or not message or message[0] != kind:
        raise Broken(f"something other than {kind}")
    return message[1:]
