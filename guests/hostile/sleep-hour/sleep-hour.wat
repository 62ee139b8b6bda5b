;; sleep-hour: waits for one hour in a single host call.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "sleeping\n")
  (data (i32.const 1040) " woke after ")
  (data (i32.const 1056) " s\n")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  ;; Prints the time that passed on the monotonic clock during the sleep, in whole seconds.
  (func (export "_start")
    (local $before i64)
    (call $say (i32.const 1024) (i32.const 9))
    (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 24)))
    (local.set $before (i64.load (i32.const 24)))
    ;; a subscription: clock, monotonic, 3 600 000 000 000 ns from now
    (i32.store8 (i32.const 136) (i32.const 0))
    (i32.store (i32.const 144) (i32.const 1))
    (i64.store (i32.const 152) (i64.const 3600000000000))
    (call $number (call $poll_oneoff (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 32)))
    (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 24)))
    (call $say (i32.const 1040) (i32.const 12))
    (call $number
      (i32.wrap_i64
        (i64.div_u (i64.sub (i64.load (i32.const 24)) (local.get $before)) (i64.const 1000000000))))
    (call $say (i32.const 1056) (i32.const 3))))
