# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:http/outgoing-handler@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_http_types import (
    ERROR_CODE,
    FUTURE_INCOMING_RESPONSE,
    OUTGOING_REQUEST,
    REQUEST_OPTIONS,
    ErrorCode,
    FutureIncomingResponse,
    OutgoingRequest,
    RequestOptions,
)
from aegis.wit.types import Function, Interface, Option, Own, Result
from aegis.wit.values import Err

__all__ = [
    "ERROR_CODE",
    "FUTURE_INCOMING_RESPONSE",
    "INTERFACE",
    "OUTGOING_REQUEST",
    "REQUEST_OPTIONS",
    "ErrorCode",
    "FutureIncomingResponse",
    "Host",
    "OutgoingRequest",
    "RequestOptions",
]


class Host(Protocol):
    """What Python provides to a guest that imports the interface."""

    def handle(
        self,
        request: OutgoingRequest,
        options: RequestOptions | None,
    ) -> FutureIncomingResponse | Err[ErrorCode]: ...


_NAME = "wasi:http/outgoing-handler@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={
        "handle": Function(
            (("request", Own(OUTGOING_REQUEST)), ("options", Option(Own(REQUEST_OPTIONS)))),
            Result(Own(FUTURE_INCOMING_RESPONSE), ERROR_CODE),
        ),
    },
    types={
        "outgoing-request": OUTGOING_REQUEST,
        "request-options": REQUEST_OPTIONS,
        "future-incoming-response": FUTURE_INCOMING_RESPONSE,
        "error-code": ERROR_CODE,
    },
)
