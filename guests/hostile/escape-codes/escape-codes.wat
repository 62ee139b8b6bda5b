;; escape-codes: writes terminal escapes, and traps in a function whose name holds them.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\1b[31mred\1b[0m \1b]0;title\07 \08\08\9b1m\0d\n")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))

  (func $trap (@name "\1b[2J\1b]0;owned\07\0aaegis: everything is fine\0a\1b[8m")
    unreachable)
  (func $print
    (call $say (i32.const 1024) (i32.const 31)))
  (func (export "_start")
    (call $print)
    (call $trap))
  (func (export "\1b[31mexport\0a") (call $trap)))
