;; exit-zero: tries to end with exit code 0 although it was stopped.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 2)

  (data (i32.const 64) "\00\00\01\00\00\00\01\00")  ;; an iovec: all of the second page

  (func $exit (call $proc_exit (i32.const 0)))

  ;; Exceeds the limit of stdout a hundred times over, and then exits with 0.
  (func (export "_start")
    (local $times i32)
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 72)))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const 1700))))
    (call $exit))

  ;; Requests more random bytes than host_bytes allows, and exits.
  (func (export "quota")
    (local $times i32)
    (loop $again
      (drop (call $random_get (i32.const 65536) (i32.const 65536)))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const 2000))))
    (call $exit))

  ;; Spends its fuel in a finite loop, and exits.
  (func (export "fuel")
    (local $times i64)
    (loop $again
      (local.set $times (i64.add (local.get $times) (i64.const 1)))
      (br_if $again (i64.lt_u (local.get $times) (i64.const 0x1000000000))))
    (call $exit))

  ;; Sleeps beyond its deadline, and exits.
  (func (export "sleep")
    (memory.fill (i32.const 128) (i32.const 0) (i32.const 48))
    (i32.store (i32.const 144) (i32.const 1))
    (i64.store (i32.const 152) (i64.const 3600000000000))
    (drop (call $poll_oneoff (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 32)))
    (call $exit))

  ;; Exits from a stack depth of $depth frames, where an exit is valid too.
  (func $deep (export "deep") (param $depth i32) (result i32)
    (if (local.get $depth) (then (return (i32.add (i32.const 1)
      (call $deep (i32.sub (local.get $depth) (i32.const 1)))))))
    (call $exit)
    (i32.const 0))

  ;; Traps; the sandbox must refuse later calls.
  (func (export "trap") unreachable)
  (func (export "leave") (call $exit)))
