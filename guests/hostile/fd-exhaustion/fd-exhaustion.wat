;; fd-exhaustion: opens its directory repeatedly, and closes no descriptor.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "opened ")
  (data (i32.const 1032) ", then error ")
  (data (i32.const 1048) "\n")
  (data (i32.const 1056) ".")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (func (export "_start")
    (local $errno i32) (local $count i32)
    (block $refused
      (loop $again
        (local.set $errno
          (call $path_open (i32.const 3) (i32.const 0) (i32.const 1056) (i32.const 1) (i32.const 2)
            (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64)))
        (br_if $refused (local.get $errno))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $count) (i32.const 100000)))))
    (call $say (i32.const 1024) (i32.const 7))
    (call $number (local.get $count))
    (call $say (i32.const 1032) (i32.const 13))
    (call $number (local.get $errno))
    (call $say (i32.const 1048) (i32.const 1))))
