;; disk-filling: writes one file until the disk is full.
(module
  (import "wasi_snapshot_preview1" "fd_allocate" (func $fd_allocate (param i32 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $fd_filestat_set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 17)
  (data (i32.const 1024) "error ")
  (data (i32.const 1032) "\n")
  (data (i32.const 1040) "filling")
  (data (i32.const 1048) "sparse")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  ;; An iovec: one mebibyte from the second page on.
  (data (i32.const 64) "\00\00\01\00\00\00\10\00")

  (func $stop (param $errno i32)
    (call $say (i32.const 1024) (i32.const 6))
    (call $number (local.get $errno))
    (call $say (i32.const 1032) (i32.const 1))
    (call $proc_exit (i32.const 1)))

  (func $open (param $name i32) (param $size i32) (result i32)
    (local $errno i32)
    (local.set $errno
      (call $path_open (i32.const 3) (i32.const 0) (local.get $name) (local.get $size)
        (i32.const 9) (i64.const 0x400140) (i64.const 0) (i32.const 0) (i32.const 72)))
    (if (local.get $errno) (then (call $stop (local.get $errno))))
    (i32.load (i32.const 72)))

  (func (export "_start")
    (local $fd i32) (local $errno i32)
    (local.set $fd (call $open (i32.const 1040) (i32.const 7)))
    (loop $again
      (local.set $errno (call $fd_write (local.get $fd) (i32.const 64) (i32.const 1) (i32.const 72)))
      (br_if $again (i32.eqz (local.get $errno))))
    (call $stop (local.get $errno)))

  ;; The same in one step: a file of 1 TiB, by its size; then, if there is none, by allocation.
  (func (export "sparse")
    (local $fd i32) (local $errno i32)
    (local.set $fd (call $open (i32.const 1048) (i32.const 6)))
    (local.set $errno (call $fd_filestat_set_size (local.get $fd) (i64.const 0x10000000000)))
    (if (local.get $errno)
      (then
        (local.set $errno (call $fd_allocate (local.get $fd) (i64.const 0) (i64.const 0x10000000000)))))
    (call $stop (local.get $errno))))
