"""Core modules of ours that save transitions between the host and a guest. They are trusted code, and small.

``realloc_batch``: sixteen calls of a guest's realloc in one entry. A list of strings needs one for each string, and an
entry from Python costs some hundred times what a call within WebAssembly does. Sizes and addresses pass as parameters
and results, so the module has no memory, which would count towards the guest's limits.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import c_void_p

from aegis.engine.classify import OWN_MODULE
from aegis.engine.code import NativeCode
from aegis.engine.native import lib, take_error
from aegis.errors import AegisInternalError

__all__ = ["BATCH", "batch_module", "compiled", "realloc_batch"]

BATCH = 16
_I32 = 0x7F
_made: dict[int, NativeCode] = {}
_lock = threading.Lock()


def batch_module() -> bytes:
    """Return the binary of the module: it imports realloc, and exports ``go(align, size, …) -> (address, …)``."""
    realloc = bytes([0x60, 4, *[_I32] * 4, 1, _I32])
    go = bytes([0x60, BATCH + 1, *[_I32] * (BATCH + 1), BATCH, *[_I32] * BATCH])
    # (i32.const 0) (i32.const 0) (local.get align) (local.get size) (call realloc), for each size
    body = b"\0" + b"".join(bytes([0x41, 0, 0x41, 0, 0x20, 0, 0x20, n, 0x10, 0]) for n in range(1, BATCH + 1)) + b"\x0b"
    sections = (
        (1, b"\2" + realloc + go),
        (2, b"\1\0\1r\0\0"),
        (3, b"\1\1"),
        (7, b"\1\2go\0\1"),
        (10, b"\1" + _leb(len(body)) + body),
        (0, b"\4name\0" + _leb(len(OWN_MODULE) + 1) + _leb(len(OWN_MODULE)) + OWN_MODULE.encode()),
    )
    return b"\0asm\1\0\0\0" + b"".join(bytes([n]) + _leb(len(data)) + data for n, data in sections)


def _leb(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def realloc_batch(engine: int) -> NativeCode:
    """Return the module's code for an engine, which lives as long as the process."""
    found = _made.get(engine)
    if found is None:
        with _lock:
            found = _made.get(engine)
            if found is None:
                found = _made[engine] = compiled(engine, batch_module(), "the module of batched reallocations")
    return found


def compiled(engine: int, data: bytes, name: str) -> NativeCode:
    """Compile a module of ours."""
    out = c_void_p()
    error = lib.wasmtime_module_new(engine, data, len(data), ctypes.byref(out))
    if error is not None:
        raise AegisInternalError(f"{name} is invalid: {take_error(error)}")
    return NativeCode(engine, out.value or 0, "module")
