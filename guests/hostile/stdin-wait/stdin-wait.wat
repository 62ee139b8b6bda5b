;; stdin-wait: waits for input that never comes.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\n")
  (data (i32.const 1032) "reading ")
  (data (i32.const 1040) "polling ")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (func $result (param $errno i32)
    (call $number (local.get $errno))
    (call $say (i32.const 1024) (i32.const 1)))

  ;; Reads one byte.
  (func (export "_start")
    (call $say (i32.const 1032) (i32.const 8))
    (i32.store (i32.const 64) (i32.const 80))
    (i32.store (i32.const 68) (i32.const 1))
    (call $result (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 72))))

  ;; Waits until stdin can be read, with no time limit.
  (func (export "poll")
    (call $say (i32.const 1040) (i32.const 8))
    (i32.store8 (i32.const 136) (i32.const 1))
    (i32.store (i32.const 144) (i32.const 0))
    (call $result (call $poll_oneoff (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 32)))))
