;; escape-symlink-swap: opens a file repeatedly while another process swaps its directory for a link that leads out.
;;
;; A host that checks a path before it uses it would eventually fail.
(module
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "ESCAPED\n")
  (data (i32.const 1032) "contained, opened ")
  (data (i32.const 1056) " times\n")
  (data (i32.const 1064) "swap/secret.txt")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (global $opened (mut i32) (i32.const 0))

  ;; Reads the first six bytes of the open file $fd; they must never be "SECRET".
  (func $look (param $fd i32)
    (i64.store (i32.const 80) (i64.const 0))
    (i32.store (i32.const 64) (i32.const 80))
    (i32.store (i32.const 68) (i32.const 6))
    (drop (call $fd_read (local.get $fd) (i32.const 64) (i32.const 1) (i32.const 72)))
    (drop (call $fd_close (local.get $fd)))
    (global.set $opened (i32.add (global.get $opened) (i32.const 1)))
    (if (i64.eq (i64.load (i32.const 80)) (i64.const 0x544552434553))
      (then
        (call $say (i32.const 1024) (i32.const 8))
        (call $proc_exit (i32.const 66)))))

  (func $try (param $times i32)
    (loop $again
      (if (i32.eqz
            (call $path_open (i32.const 3) (i32.const 1) (i32.const 1064) (i32.const 15)
              (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 76)))
        (then (call $look (i32.load (i32.const 76)))))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $again (local.get $times))))

  ;; Makes $times attempts, at least one.
  (func $run (export "run") (param $times i32)
    (call $try (local.get $times))
    (call $say (i32.const 1032) (i32.const 18))
    (call $number (global.get $opened))
    (call $say (i32.const 1056) (i32.const 7)))

  (func (export "_start") (call $run (i32.const 20000))))
