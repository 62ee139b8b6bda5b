"""``error-code`` of ``wasi:http/types`` for each fault of an exchange."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from aegis.bindings import wasi_http_types as types
from aegis.host.net.http.http_fault import HttpFault
from aegis.host.preview2.io import Failed, IoError
from aegis.wit.naming import pascal

__all__ = ["error_code", "failed"]

_RECORDS = {
    "DNS-error": types.DnsErrorPayload,
    "TLS-alert-received": types.TlsAlertReceivedPayload,
}


def error_code(fault: HttpFault) -> Any:
    """Return the case of ``error-code`` for a fault."""
    cls = getattr(types, f"ErrorCode{pascal(fault.code)}")
    if not fields(cls):
        return cls()
    record = _RECORDS.get(fault.code)
    if record is not None:
        given = fault.detail if isinstance(fault.detail, tuple) else (None, None)
        return cls(record(*given))
    return cls(fault.detail)


def failed(fault: HttpFault) -> Failed:
    """Return the failure of a stream; ``http-error-code`` returns its code."""
    return Failed(IoError(fault.code, error_code(fault)))
