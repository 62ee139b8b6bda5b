"""Hostile Python inside a real worker. The fork server imports this module, so that its workers are taken over.

A call of an export with the name of an attack performs the attack, confined as the worker is, before the guest is
called. What came of it goes to the guest's stderr as a line of JSON. :mod:`.taken` starts such applications.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import stat
import struct
import termios
import threading
from collections.abc import Callable
from typing import Any

from aegis.isolation import worker

ATTACKS: dict[str, Callable[[Any], Any]] = {}
JUNK = b"junk of a worker that was taken over"
TIOCSTI = 0x5412
_call, _compile = worker.Session.call, worker._compile


def attack(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make ``function`` one of the attacks, by its name."""
    ATTACKS[function.__name__] = function
    return function


def tried(action: Callable[[], Any]) -> Any:
    """Return what an action gave, or the number of its error."""
    try:
        result = action()
    except OSError as error:
        return {"errno": error.errno}
    return result.hex() if isinstance(result, bytes) else result


def open_descriptors() -> list[int]:
    """Return every open descriptor: /proc cannot be listed in here."""
    found = []
    for number in range(4096):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    return found


@attack
def descriptors(session: Any) -> dict[str, Any]:
    """Do with each open descriptor whatever could change what stands behind it."""
    conversation = session.channel.fileno()
    return {str(number): abuse(number, talks=number == conversation) for number in open_descriptors()}


def abuse(number: int, *, talks: bool) -> dict[str, Any]:
    """Abuse one descriptor; on the conversation with the parent only what leaves its bytes alone."""
    status = os.fstat(number)
    found: dict[str, Any] = {
        "file": [status.st_dev, status.st_ino],
        "kind": stat.S_IFMT(status.st_mode),
        "flags": tried(lambda: fcntl.fcntl(number, fcntl.F_GETFL)),
        "set flags": tried(lambda: fcntl.fcntl(number, fcntl.F_SETFL, os.O_NONBLOCK)),
        "own": tried(lambda: fcntl.fcntl(number, fcntl.F_SETOWN, os.getpid())),
        "terminal": tried(lambda: fcntl.ioctl(number, TIOCSTI, b"x")),
        "set terminal": tried(lambda: fcntl.ioctl(number, termios.TCSETS, bytes(60))),
        "window": tried(lambda: fcntl.ioctl(number, termios.TIOCSWINSZ, struct.pack("HHHH", 1, 1, 1, 1))),
        "truncate": tried(lambda: os.ftruncate(number, 0)),
        "seek": tried(lambda: os.lseek(number, 0, os.SEEK_SET)),
        "reopen": tried(lambda: os.open(f"/proc/self/fd/{number}", os.O_RDWR)),
    }
    if not talks:
        found["pwrite"] = tried(lambda: os.pwrite(number, JUNK, 0))
        found["write"] = tried(lambda: os.write(number, JUNK)) if can(number, select.POLLOUT) else None
        found["read"] = tried(lambda: os.read(number, 100)) if can(number, select.POLLIN) else None
    return found


def can(number: int, events: int) -> bool:
    """Tell whether an action on a descriptor would not wait."""
    poller = select.poll()
    poller.register(number, events)
    return bool(poller.poll(0))


@attack
def flood(session: Any) -> None:
    """Write more than the limit, past the worker's own count."""
    for _ in range(64):
        session.channel.send(["out", 1, b"x" * 8192, False])


@attack
def ask_for_input(session: Any) -> None:
    """Ask for standard input, granted or not."""
    session.channel.send(["in", 65536])


@attack
def hang(session: Any) -> None:
    """Close the conversation and go on."""
    session.channel.socket.close()
    threading.Event().wait()


@attack
def die(session: Any) -> None:
    """Write, and die at once."""
    session.channel.send(["out", 1, b"last words\n", False])
    os.abort()


def call(session: Any, name: str, values: list[Any]) -> Any:
    """Stand for ``Session.call``."""
    if name in ATTACKS:
        report = ATTACKS[name](session)
        session.channel.send(["out", 2, json.dumps(report).encode() + b"\n", False])
    return _call(session, name, values)


def compile_and_hang(channel: Any, *_: Any) -> None:
    """Stand for the work of a compile worker: hang up, and go on."""
    channel.socket.close()
    threading.Event().wait()


worker.Session.call = call  # type: ignore[method-assign, assignment]
