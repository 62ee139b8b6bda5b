;; Requests 2^64 - 1 bytes of input at once, and returns the number of bytes received, or -1.
(component
  (type $streams (instance
    (export "error" (type $e (sub resource)))
    (type $own (own $e))
    (type $v (variant (case "last-operation-failed" $own) (case "closed")))
    (export "stream-error" (type $error (eq $v)))
    (export "input-stream" (type $in (sub resource)))
    (type $bytes (list u8))
    (type $r (result $bytes (error $error)))
    (export "[method]input-stream.blocking-read" (func (param "self" (borrow $in)) (param "len" u64) (result $r)))))
  (import "wasi:io/streams@0.2.3" (instance $streams (type $streams)))
  (alias export $streams "input-stream" (type $input))
  (type $stdin (instance
    (alias outer 1 $input (type $outer))
    (export "input-stream" (type $in (eq $outer)))
    (type $own (own $in))
    (export "get-stdin" (func (result $own)))))
  (import "wasi:cli/stdin@0.2.3" (instance $stdin (type $stdin)))
  (core module $memory
    (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $stdin (canon lower (func $stdin "get-stdin")))
  (core module $m
    (import "" "memory" (memory 4))
    (import "" "read" (func $read (param i32 i64 i32)))
    (import "" "stdin" (func $stdin (result i32)))
    (func (export "read") (result i32)
      (call $read (call $stdin) (i64.const -1) (i32.const 16))
      (if (result i32) (i32.load8_u (i32.const 16)) (then (i32.const -1)) (else (i32.load (i32.const 24))))))
  (core instance $m (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "read" (func $read)) (export "stdin" (func $stdin))))))
  (func (export "read") (result s32) (canon lift (core func $m "read"))))
