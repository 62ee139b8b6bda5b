;; long-path: gives names and paths that are far too long.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (data (i32.const 1024) " ")
  (data (i32.const 1032) "\n")
  (data (i32.const 1040) "one name: ")
  (data (i32.const 1056) "many names: ")
  (data (i32.const 1072) "many dots: ")
  (data (i32.const 1088) "many slashes: ")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (func $try (param $size i32) (result i32)
    (call $path_open (i32.const 3) (i32.const 1) (i32.const 65536) (local.get $size)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))

  ;; Fills the mebibyte with one 16-bit pattern.
  (func $fill (param $pattern i32)
    (local $at i32)
    (local.set $at (i32.const 65536))
    (loop $next
      (i32.store16 (local.get $at) (local.get $pattern))
      (local.set $at (i32.add (local.get $at) (i32.const 2)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 1114112)))))

  (func $each
    (call $number (call $try (i32.const 256)))
    (call $say (i32.const 1024) (i32.const 1))
    (call $number (call $try (i32.const 5000)))
    (call $say (i32.const 1024) (i32.const 1))
    (call $number (call $try (i32.const 1048576)))
    (call $say (i32.const 1032) (i32.const 1)))

  (func (export "_start")
    (call $fill (i32.const 0x6161))
    (call $say (i32.const 1040) (i32.const 10))
    (call $each)
    (call $fill (i32.const 0x2f61))
    (call $say (i32.const 1056) (i32.const 12))
    (call $each)
    (call $fill (i32.const 0x2f2e))
    (call $say (i32.const 1072) (i32.const 11))
    (call $each)
    (call $fill (i32.const 0x2f2f))
    (call $say (i32.const 1088) (i32.const 14))
    (call $each)))
