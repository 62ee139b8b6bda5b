"""Run the command line, and programs, in processes forked from one that has imported what they need.

Each run has a process of its own, without its start: the start of an interpreter and the imports take three quarters of
the time of a short command. A test whose subject is the start itself, or a standard stream, a signal or a resource
limit from the start, begins ``COMMAND`` or an interpreter instead.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["run", "run_program", "suitable"]

ROOT = Path(__file__).resolve().parents[2]
SERVING = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.cli.preloaded import serve
program = serve(int(sys.argv[1]))
if program:
    sys.argv[0] = "-c"
    exec(compile(program, "<string>", "exec"), {{"__name__": "__main__", "__builtins__": __builtins__}})
"""
SERVER = [sys.executable, "-P", "-c", SERVING]
IMPORTED = ("aegis.cli.main", "aegis.cli.run", "aegis.cli.commands", "aegis.runtime")
AT_START = ("PYTHON", "COVERAGE_", "LANG", "LC_", "LD_")
"""Beginnings of the names of variables that an interpreter or its libraries read when they start."""
_HEADER = struct.Struct("<I")


def _at_start() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(AT_START)}


_STARTED = _at_start()


def suitable(words: Sequence[str]) -> bool:
    """Return whether a forked process can stand for a started one.

    It cannot if the environment changes the start, or measures coverage; and a worker must find in an ordinary process
    all modules that it needs after its confinement.
    """
    started = _at_start()
    measured = any(name.startswith("COVERAGE_") for name in started)
    isolated = any("isolate" in word for word in words)
    return sys.platform == "linux" and started == _STARTED and not measured and not isolated


# -- in the test ----------------------------------------------------------------------------------------------------


class _Server:
    """The connection to the process that forks; it ends when the connection is closed."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.socket, other = socket.socketpair()
        with other:
            number = other.fileno()
            self.process = subprocess.Popen([*SERVER, str(number)], pass_fds=[number], stdin=subprocess.DEVNULL)
        self.owner = os.getpid()
        atexit.register(self.close)

    def close(self) -> None:
        """End the process that forks, unless this is a forked child of the one that started it."""
        self.socket.close()
        if self.owner == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)

    def run(
        self, words: Sequence[str], stdin: bytes, cwd: Path, seconds: float, **program: Any
    ) -> tuple[int, bytes, bytes]:
        """Return exit code, stdout and stderr of a command line, or raise ``subprocess.TimeoutExpired``."""
        order = json.dumps({"words": list(words), "cwd": str(cwd), "environment": dict(os.environ), **program}).encode()
        (stdin_end, feeds), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
        with self.turn:
            socket.send_fds(self.socket, [_HEADER.pack(len(order))], [stdin_end, out_end, err_end])
            for descriptor in (stdin_end, out_end, err_end):
                os.close(descriptor)
            self.socket.sendall(order)
            (pid,) = _HEADER.unpack(_exactly(self.socket, _HEADER.size))
            complete = False
            try:
                said = _exchanged(feeds, stdin, (out, err), time.monotonic() + seconds)
                complete = said is not None
            finally:
                if not complete:
                    os.kill(pid, signal.SIGKILL)
                (code,) = struct.unpack("<i", _exactly(self.socket, 4))
        if said is None:
            raise subprocess.TimeoutExpired(list(words), seconds)
        return code, *said


def _exchanged(feeds: int, stdin: bytes, outputs: tuple[int, int], deadline: float) -> tuple[bytes, bytes] | None:
    """Write ``stdin`` and read both outputs to their ends; return ``None`` if that takes until ``deadline``."""
    read: dict[int, bytearray] = {output: bytearray() for output in outputs}
    rest = memoryview(stdin)
    os.set_blocking(feeds, False)
    with selectors.DefaultSelector() as selector:
        selector.register(feeds, selectors.EVENT_WRITE)
        for output in outputs:
            selector.register(output, selectors.EVENT_READ)
        try:
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    return None
                for key, _ in ready:
                    descriptor = key.fd
                    if descriptor == feeds:
                        try:
                            rest = rest[os.write(feeds, rest[:65536]) :] if rest else rest
                        except BrokenPipeError:
                            rest = rest[:0]
                        done = not rest
                    else:
                        data = os.read(descriptor, 1 << 16)
                        read[descriptor] += data
                        done = not data
                    if done:
                        selector.unregister(descriptor)
                        os.close(descriptor)
        finally:
            for descriptor in [key.fd for key in selector.get_map().values()]:
                os.close(descriptor)
    out, err = outputs
    return bytes(read[out]), bytes(read[err])


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the process that forks command lines has ended")
        data += part
    return data


@cache
def _server(process: int, imported: tuple[str, ...] = ()) -> _Server:
    """Return a server of this process, which imports these modules: a forked child of a test starts its own."""
    return _Server()


def run(words: Sequence[str], *, stdin: bytes, cwd: Path, seconds: float) -> tuple[int, bytes, bytes]:
    """Run a command line in a new process; return its exit code, negative for a signal, its stdout and its stderr."""
    return _server(os.getpid()).run(words, stdin, cwd, seconds)


def run_program(
    text: str, *words: str, imported: Sequence[str], cwd: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a Python program with arguments in a new process, which has these modules already.

    Like an interpreter that gets the program by ``-c``, it ignores warnings with ``-W ignore``, and its standard input
    is empty. Where processes cannot be forked, or a measurement follows them, it is an interpreter.
    """
    if not suitable(words):
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", text, *words], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=seconds, check=False, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    server = _server(os.getpid(), tuple(imported))
    code, out, err = server.run(words, b"", cwd, seconds, program=text, imported=list(imported))
    return subprocess.CompletedProcess([*words], code, out.decode(), err.decode(errors="replace"))


# -- in the process that forks --------------------------------------------------------------------------------------


def serve(number: int) -> str:
    """Fork a process for each order that arrives on the socket with this number.

    Return in the child that has to run a program, with its text, and at the end with none.
    """
    from aegis.cli import main  # before its module of this name takes the place of the function

    for name in IMPORTED:
        importlib.import_module(name)
    with socket.socket(fileno=number) as control:
        os.set_inheritable(number, False)
        with contextlib.suppress(EOFError):
            while True:
                header, descriptors, _, _ = socket.recv_fds(control, _HEADER.size, 3)
                if not header:
                    return ""
                order = json.loads(_exactly(control, *_HEADER.unpack(header)))
                for name in order.get("imported", ()):
                    importlib.import_module(name)
                pid = os.fork()
                if pid == 0:
                    control.close()
                    _prepare(descriptors, order)
                    if "program" in order:
                        warnings.simplefilter("ignore")
                        return str(order["program"])  # the interpreter of the child ends as it would by itself
                    _become(main)
                for descriptor in descriptors:
                    os.close(descriptor)
                control.sendall(_HEADER.pack(pid))
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                control.sendall(struct.pack("<i", code))


def _prepare(descriptors: list[int], order: Any) -> None:
    """Give the forked child the streams, directory, environment and arguments of its order."""
    for stream, descriptor in enumerate(descriptors):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["words"]


def _become(main: Callable[[], Any]) -> None:
    """Run the command line in the forked child; never return."""
    try:
        main()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(1)
