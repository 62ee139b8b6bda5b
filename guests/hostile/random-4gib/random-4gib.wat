;; random-4gib: asks for four gibibytes of randomness.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 17)
  (data (i32.const 1024) "\n")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  ;; Requests slightly more than four times a thousand mebibytes; prints the first error number.
  (func (export "_start")
    (local $left i32) (local $errno i32)
    (local.set $left (i32.const 4096))
    (block $done
      (loop $again
        (local.set $errno (call $random_get (i32.const 65536) (i32.const 1048576)))
        (br_if $done (local.get $errno))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left))))
    (call $number (local.get $errno))
    (call $say (i32.const 1024) (i32.const 1)))

  ;; Requests all of it in one call, from $pointer on: the memory is smaller. Returns the error number.
  (func (export "huge") (param $pointer i32) (result i32)
    (call $random_get (local.get $pointer) (i32.const 0xffffffff))))
