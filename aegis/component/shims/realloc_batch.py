"""A core module that calls a guest's realloc 16 times in one entry.

Lowering a list of strings needs one realloc for each string, and an entry from Python costs about a hundred times as
much as a call within WebAssembly. Sizes and addresses pass as parameters and results; the module therefore needs no
memory, which would count towards the guest's limits.
"""

from __future__ import annotations

from aegis.engine.call.classify import OWN_MODULE
from aegis.engine.compile.code import NativeCode
from aegis.engine.compile.config import EngineConfig
from aegis.engine.store.own_module import OwnModule

__all__ = ["BATCH", "batch_module", "realloc_batch"]

BATCH = 16
_I32 = 0x7F


def batch_module() -> bytes:
    """Return the binary of the module, which imports realloc and exports ``go(align, size, …) -> (address, …)``."""
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


_batch = OwnModule(batch_module())


def realloc_batch(config: EngineConfig) -> NativeCode:
    """Return the compiled batch module for engines of ``config``."""
    return _batch.code(config)
