"""``error-code`` of ``wasi:http/types`` for each fault of an exchange, in every version."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from aegis.host.net.http.http_fault import HttpFault
from aegis.wit.naming import pascal

__all__ = ["error_code_of"]

_RECORDS = {"DNS-error": "DnsErrorPayload", "TLS-alert-received": "TlsAlertReceivedPayload"}


def error_code_of(types: Any, fault: HttpFault) -> Any:
    """Return the case of ``error-code`` for a fault; ``types`` is the module with its classes."""
    cls = getattr(types, f"ErrorCode{pascal(fault.code)}")
    if not fields(cls):
        return cls()
    record = _RECORDS.get(fault.code)
    if record is not None:
        given = fault.detail if isinstance(fault.detail, tuple) else (None, None)
        return cls(getattr(types, record)(*given))
    return cls(fault.detail)
