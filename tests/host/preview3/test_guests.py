"""A guest in text that passes a stream of WASI 0.3 on: from standard input to standard output."""

from __future__ import annotations

import pytest

from aegis import Aegis, OutputExceeded, StdioCapability

PASS_ON = """(component
  (import "wasi:cli/types@0.3.0" (instance $types
    (type $code (enum "io" "illegal-byte-sequence" "pipe")) (export "error-code" (type (eq $code)))))
  (alias export $types "error-code" (type $code))
  (import "wasi:cli/stdin@0.3.0" (instance $in
    (alias outer 1 $code (type $of)) (export "error-code" (type $e (eq $of)))
    (type $end (result (error $e))) (type $future (future $end)) (type $stream (stream u8))
    (export "read-via-stream" (func (result (tuple $stream $future))))))
  (import "wasi:cli/stdout@0.3.0" (instance $out
    (alias outer 1 $code (type $of)) (export "error-code" (type $e (eq $of)))
    (type $end (result (error $e))) (type $future (future $end)) (type $stream (stream u8))
    (export "write-via-stream" (func (param "data" $stream) (result $future)))))
  (core module $memory (memory (export "m") 1))
  (core instance $memory (instantiate $memory))
  (core func $read (canon lower (func $in "read-via-stream") (memory (core memory $memory "m"))))
  (core func $write (canon lower (func $out "write-via-stream")))
  (core module $m
    (import "" "m" (memory 1)) (import "" "read" (func $read (param i32)))
    (import "" "write" (func $write (param i32) (result i32)))
    (func (export "go") (result i32)
      (call $read (i32.const 16))
      (call $write (i32.load (i32.const 16)))))
  (core instance $i (instantiate $m (with "" (instance
    (export "m" (memory $memory "m")) (export "read" (func $read)) (export "write" (func $write))))))
  (func (export "go") (result u32) (canon lift (core func $i "go"))))"""


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 32 << 20])
def test_a_stream_of_the_host_is_passed_on_to_the_host(size: int) -> None:
    """Every byte arrives, in order, however many pieces they are; the guest reads none of them.

    The input is ready from the beginning, so the guest need not wait for the future of its end.
    """
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    runtime = Aegis(timeout="60s", stdout=64 << 20)
    with runtime.sandbox(runtime.load_wat(PASS_ON), stdio=StdioCapability(stdin=data), isolate=False) as sandbox:
        sandbox.call("go")
        assert sandbox.stdout == data


def test_without_the_grant_the_stream_is_empty() -> None:
    runtime = Aegis(timeout="60s")
    with runtime.sandbox(runtime.load_wat(PASS_ON)) as sandbox:
        sandbox.call("go")
        assert sandbox.stdout == b""


def test_the_limit_of_output_holds() -> None:
    runtime = Aegis(timeout="60s", stdout=70_000)
    stdio = StdioCapability(stdin=bytes(100_000))
    with runtime.sandbox(runtime.load_wat(PASS_ON), stdio=stdio, isolate=False) as sandbox:
        with pytest.raises(OutputExceeded):
            sandbox.call("go")
        assert len(sandbox.stdout) == 70_000
