"""Attacks on a worker's standard streams and on its connection to the parent. They need its session."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import termios
import threading
from collections.abc import Callable
from typing import Any

from tests.isolation.attacks.registry import attack

__all__ = ["JUNK"]

JUNK = b"junk of a worker that was taken over"
TIOCSTI = 0x5412


def attempt(action: Callable[[], Any]) -> Any:
    """Return the result of an action, or a mapping with its error number."""
    try:
        result = action()
    except OSError as error:
        return {"errno": error.errno}
    return result.hex() if isinstance(result, bytes) else result


def open_descriptors() -> list[int]:
    """Return all open descriptors, by trial: /proc cannot be listed here."""
    found = []
    for number in range(4096):
        try:
            os.fstat(number)
        except OSError:
            continue
        found.append(number)
    return found


@attack
def descriptors(order: dict[str, Any]) -> dict[str, Any]:
    """Perform every operation on each open descriptor that could change the file behind it."""
    conversation = order["session"].channel.fileno()
    return {str(number): abuse(number, talks=number == conversation) for number in open_descriptors()}


def abuse(number: int, *, talks: bool) -> dict[str, Any]:
    """Abuse one descriptor; on the connection to the parent, perform only operations that leave its data intact."""
    status = os.fstat(number)
    found: dict[str, Any] = {
        "file": [status.st_dev, status.st_ino],
        "kind": stat.S_IFMT(status.st_mode),
        "flags": attempt(lambda: fcntl.fcntl(number, fcntl.F_GETFL)),
        "set flags": attempt(lambda: fcntl.fcntl(number, fcntl.F_SETFL, os.O_NONBLOCK)),
        "own": attempt(lambda: fcntl.fcntl(number, fcntl.F_SETOWN, os.getpid())),
        "terminal": attempt(lambda: fcntl.ioctl(number, TIOCSTI, b"x")),
        "set terminal": attempt(lambda: fcntl.ioctl(number, termios.TCSETS, bytes(60))),
        "window": attempt(lambda: fcntl.ioctl(number, termios.TIOCSWINSZ, struct.pack("HHHH", 1, 1, 1, 1))),
        "truncate": attempt(lambda: os.ftruncate(number, 0)),
        "seek": attempt(lambda: os.lseek(number, 0, os.SEEK_SET)),
        "reopen": attempt(lambda: os.open(f"/proc/self/fd/{number}", os.O_RDWR)),
    }
    if not talks:
        found["pwrite"] = attempt(lambda: os.pwrite(number, JUNK, 0))
        found["write"] = attempt(lambda: os.write(number, JUNK)) if can(number, select.POLLOUT) else None
        found["read"] = attempt(lambda: os.read(number, 100)) if can(number, select.POLLIN) else None
    return found


def can(number: int, events: int) -> bool:
    """Return whether an action on a descriptor would not block."""
    poller = select.poll()
    poller.register(number, events)
    return bool(poller.poll(0))


@attack
def flood(order: dict[str, Any]) -> None:
    """Write more than the limit, bypassing the worker's own count."""
    for _ in range(64):
        order["session"].channel.send(["out", 1, b"x" * 8192, False])


@attack
def ask_for_input(order: dict[str, Any]) -> None:
    """Ask for standard input, granted or not."""
    order["session"].channel.send(["in", 65536])


@attack
def hang(order: dict[str, Any]) -> None:
    """Close the connection and continue."""
    order["session"].channel.socket.close()
    threading.Event().wait()


@attack
def die(order: dict[str, Any]) -> None:
    """Write, and exit at once."""
    order["session"].channel.send(["out", 1, b"last words\n", False])
    os.abort()


@attack
def say(order: dict[str, Any]) -> None:
    """Send forged messages to the parent."""
    for message in order["messages"]:
        order["session"].channel.send(message)
