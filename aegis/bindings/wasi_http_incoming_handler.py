# Made by `aegis bindgen`; a change belongs in the WIT that it was made from.
"""The interface ``wasi:http/incoming-handler@0.2.12``."""

from __future__ import annotations

from typing import Protocol

from aegis.bindings.wasi_http_types import INCOMING_REQUEST, RESPONSE_OUTPARAM, IncomingRequest, ResponseOutparam
from aegis.wit.types import Function, Interface, Own

__all__ = ["INCOMING_REQUEST", "INTERFACE", "RESPONSE_OUTPARAM", "Exports", "IncomingRequest", "ResponseOutparam"]


class Exports(Protocol):
    """What Python calls in a guest that exports the interface: ``sandbox.bind(INTERFACE)``."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None: ...


_NAME = "wasi:http/incoming-handler@0.2.12"

INTERFACE = Interface(
    _NAME,
    functions={"handle": Function((("request", Own(INCOMING_REQUEST)), ("response-out", Own(RESPONSE_OUTPARAM))))},
    types={"incoming-request": INCOMING_REQUEST, "response-outparam": RESPONSE_OUTPARAM},
)
