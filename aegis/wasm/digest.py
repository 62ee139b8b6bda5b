"""SHA-256 without the cost of loading the system's cryptography for a small module.

The interpreter carries an implementation of its own; above a megabyte the system's is worth its start.
"""

from __future__ import annotations

from collections.abc import Callable

from aegis.support.lean import Any

__all__ = ["sha256_hex"]

_LARGE = 1 << 20


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    digest: str = _implementation(len(data))(data).hexdigest()
    return digest


def _implementation(size: int) -> Callable[[bytes], Any]:
    if size < _LARGE:
        for module in ("_sha2", "_sha256"):  # 3.12 and later, 3.11
            try:
                found: Callable[[bytes], Any] = __import__(module).sha256
            except ImportError:
                continue
            return found
    import hashlib

    return hashlib.sha256
