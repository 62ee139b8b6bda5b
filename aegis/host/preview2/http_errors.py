"""``error-code`` of ``wasi:http/types`` for each fault of an exchange."""

from __future__ import annotations

from typing import Any

from aegis.bindings import wasi_http_types
from aegis.host.net.http.error_codes import error_code_of
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.preview2.io import Failed, IoError

__all__ = ["error_code", "failed"]


def error_code(fault: HttpFault) -> Any:
    """Return the case of ``error-code`` for a fault."""
    return error_code_of(wasi_http_types, fault)


def failed(fault: HttpFault) -> Failed:
    """Return the failure of a stream; ``http-error-code`` returns its code."""
    return Failed(IoError(fault.code, error_code(fault)))
