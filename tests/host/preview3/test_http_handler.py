"""A component that exports a handler of wasi:http 0.3 takes requests of the host in process; Aegis serves none yet."""

from __future__ import annotations

import pytest

from aegis import Aegis
from aegis.bindings import wasi_http_types_0_3 as types
from aegis.host.preview3.http_fields import MessageFields
from aegis.host.preview3.http_messages import StreamingRequest
from aegis.values import Promise
from aegis.wit.values import Err, Ok
from tests.host.preview2.guest import Guest
from tests.host.preview3.http_text import guest

COUNTING = """
    (func (export "handle") (param $request i32) (result i32)
      (local $done i64) (local $read i32) (local $size i64)
      (local.set $done (call $done))
      (call $consume-request (local.get $request) (call $low (local.get $done)) (i32.const 488))
      (loop $more
        (local.set $read (call $read (i32.load (i32.const 488)) (i32.const 2048) (i32.const 1000)))
        (local.set $size (i64.add (local.get $size) (i64.extend_i32_u (i32.shr_u (local.get $read) (i32.const 4)))))
        (br_if $more (i32.eqz (i32.and (local.get $read) (i32.const 15)))))
      (i32.store8 (i32.const 160) (i32.const 0))
      (drop (call $write-done-async (call $high (local.get $done)) (i32.const 160)))
      ;; the error `HTTP-request-body-size`, with the number of bytes
      (i32.store8 (i32.const 640) (i32.const 1)) (i32.store8 (i32.const 648) (i32.const 17))
      (i32.store8 (i32.const 656) (i32.const 1)) (i64.store (i32.const 664) (local.get $size))
      (i32.const 640))
    (func (export "go")"""
HANDLER = """
  (func $handle async (param "request" (own $request)) (result (result (own $response) (error $code)))
    (canon lift (core func $main "handle") (memory (core memory $m)) (realloc (core func $realloc))))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0" (instance $handler)))"""


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_handler_reads_the_body_of_a_request(size: int) -> None:
    """The handler answers with an error that has the number of bytes; it says that it has read them all."""
    text = guest("x", "(i32.const 0)").replace('(func (export "go")', COUNTING, 1)
    text = text[: text.rindex('(func (export "go")')] + HANDLER
    runtime, trailers = Aegis(timeout="20s"), Promise()
    trailers.set(Ok(None))
    with Guest() as host, runtime.sandbox(runtime.load_wat(text), isolate=False) as sandbox:
        request = StreamingRequest(MessageFields(host.wasi), bytes(size) if size else None, trailers, None)
        outcomes: list[object] = []
        request.outcome.attach(outcomes.append)
        with pytest.raises(Err) as caught:
            sandbox.call("wasi:http/handler@0.3.0#handle", request)
        assert caught.value.value == types.ErrorCodeHttpRequestBodySize(size)
        assert outcomes == [Ok(None)]
