"""SHA-256 without loading OpenSSL for small data.

The interpreter has a built-in implementation. OpenSSL is faster, but loading it takes longer than hashing a megabyte.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from aegis.support.lean import Any

__all__ = ["sha256_hex"]

_MIN_OPENSSL_BYTES = 1 << 20
_BUILT_IN = "_sha2" if sys.version_info >= (3, 12) else "_sha256"


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    digest: str = _implementation(len(data))(data).hexdigest()
    return digest


def _implementation(size: int) -> Callable[[bytes], Any]:
    if size < _MIN_OPENSSL_BYTES:
        try:
            found: Callable[[bytes], Any] = __import__(_BUILT_IN).sha256
        except ImportError:  # this Python was built without it
            pass
        else:
            return found
    import hashlib

    return hashlib.sha256
