"""A standalone process that confines itself and attacks, as ordered on standard input.

The order is JSON: the attack, the grants of the confinement, the layers to skip. The answer on standard output is JSON
too: the layers, and the result of the attack: an error number, the name of an error or a value.
"""

from __future__ import annotations

import ctypes
import encodings.idna  # noqa: F401 (behind Landlock nothing can be imported)
import json
import os
import resource
import signal
import struct
import sys
import threading
from typing import Any

from aegis.isolation.confine import Confinement, confine
from aegis.isolation.confine.bpf import ALLOW, Assembler, fail
from aegis.isolation.confine.kernel import libc, prctl
from tests.isolation.attacks.registry import NUMBERS, X86, call, outcome

__all__ = ["main"]


def drop_admin() -> None:
    """Drop CAP_SYS_ADMIN, as for root in a container."""
    header, held = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8), ctypes.create_string_buffer(24)
    libc.syscall(ctypes.c_long(125 if X86 else 90), header, held)
    words = list(struct.unpack("=6I", held.raw))
    words[0], words[1] = words[0] & ~(1 << 21), words[1] & ~(1 << 21)
    call("capset", header, ctypes.create_string_buffer(struct.pack("=6I", *words), 24))


def hide(names: dict[str, int]) -> None:
    """Act like a container: an outer filter answers these calls with an error number."""
    code = Assembler()
    code.load(0)
    for name, number in names.items():
        code.jump_equal(NUMBERS[name][0 if X86 else 1], otherwise=name)
        code.ret(fail(number))
        code.label(name)
    code.ret(ALLOW)
    instructions = code.assemble()
    held = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HxxxxxxP", len(instructions) // 8, ctypes.addressof(held))
    prctl(38, 1)
    prctl(22, 2, ctypes.create_string_buffer(program, len(program)))


def main() -> None:
    """Prepare, confine this process, attack, and answer, as ordered."""
    order = json.loads(sys.stdin.buffer.read())
    libc.setenv(b"BEHIND_PYTHON", b"1", 1)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most if order.get("core") else 0, most))
    if "folder" in order:
        os.chdir(order["folder"])
    if order.get("user"):
        os.setgroups([])
        os.setresgid(*[order["user"]] * 3)
        os.setresuid(*[order["user"]] * 3)  # which leaves the process not dumpable
    elif os.geteuid() == 0:
        os.setgroups([4, 27])
    if order.get("drops_admin"):
        drop_admin()
    if "hide" in order:
        hide(order["hide"])
    if order.get("personality"):
        call("personality", order["personality"])
    if order.get("dies_with_parent"):
        prctl(1, int(signal.SIGKILL))
    granted = [os.open(path, order.get("mode", os.O_RDONLY)) for path in order.get("grant", ())]
    order["granted"] = granted
    if order.get("inherit"):
        order["inherited"] = os.open(order["inherit"], os.O_RDONLY)
    wanted: dict[str, Any] = {"keep_fds": (1, 2), "file_bytes": 1 << 20, **order.get("wanted", {})}
    if granted:
        wanted["write_fds" if order.get("writes") else "read_fds"] = tuple(granted)
    if order.get("thread"):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    layers = confine(Confinement(**wanted), skip=order.get("skip", ()))
    os.write(1, json.dumps({"layers": layers}).encode() + b"\n")
    os.write(1, json.dumps(outcome(order)).encode() + b"\n")
    os._exit(0)
