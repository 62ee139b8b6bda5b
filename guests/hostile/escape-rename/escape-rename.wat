;; escape-rename: moves files between a read-only and a writable directory.
(module
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) " ")
  (data (i32.const 1032) "ESCAPED\n")
  (data (i32.const 1040) "contained\n")
  (data (i32.const 1056) "ro to rw")
  (data (i32.const 1064) "\nrw to ro")
  (data (i32.const 1080) "\nro to ro")
  (data (i32.const 1096) "\nover")
  (data (i32.const 1104) "\nunlink")
  (data (i32.const 1112) "\n")
  (data (i32.const 1120) "file.txt")
  (data (i32.const 1128) "moved.txt")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (global $ro (mut i32) (i32.const 0))  ;; the read-only directory
  (global $rw (mut i32) (i32.const 0))  ;; the one that may be written to
  (global $escaped (mut i32) (i32.const 0))

  ;; Prints an error number; 0 means that a forbidden operation succeeded.
  (func $note (param $errno i32)
    (call $say (i32.const 1024) (i32.const 1))
    (call $number (local.get $errno))
    (if (i32.eqz (local.get $errno)) (then (global.set $escaped (i32.const 1)))))

  ;; Finds the preopens whose names end in "ro" and "rw" and keeps their descriptors; 0 where there is none.
  (func $find
    (local $fd i32) (local $size i32)
    (local.set $fd (i32.const 3))
    (block $done
      (loop $next
        (br_if $done (call $fd_prestat_get (local.get $fd) (i32.const 64)))
        (local.set $size (i32.load (i32.const 68)))
        (br_if $done (call $fd_prestat_dir_name (local.get $fd) (i32.const 4096) (local.get $size)))
        (if (i32.eq (i32.load16_u offset=4094 (local.get $size)) (i32.const 0x6f72))
          (then (global.set $ro (local.get $fd))))
        (if (i32.eq (i32.load16_u offset=4094 (local.get $size)) (i32.const 0x7772))
          (then (global.set $rw (local.get $fd))))
        (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
        (br $next))))

  (func $move (param $from i32) (param $to i32)
    (call $note
      (call $path_rename (local.get $from) (i32.const 1120) (i32.const 8) (local.get $to)
        (i32.const 1128) (i32.const 9))))

  (func $finish
    (if (global.get $escaped)
      (then
        (call $say (i32.const 1032) (i32.const 8))
        (call $proc_exit (i32.const 66))))
    (call $say (i32.const 1040) (i32.const 10)))

  (func (export "_start")
    (call $find)
    (call $say (i32.const 1056) (i32.const 8))
    (call $move (global.get $ro) (global.get $rw))
    (call $say (i32.const 1064) (i32.const 9))
    (call $move (global.get $rw) (global.get $ro))
    (call $say (i32.const 1080) (i32.const 9))
    (call $move (global.get $ro) (global.get $ro))
    (call $say (i32.const 1096) (i32.const 5))
    (call $note
      (call $path_rename (global.get $rw) (i32.const 1120) (i32.const 8) (global.get $ro)
        (i32.const 1120) (i32.const 8)))
    (call $say (i32.const 1104) (i32.const 7))
    (call $note (call $path_unlink_file (global.get $ro) (i32.const 1120) (i32.const 8)))
    (call $say (i32.const 1112) (i32.const 1))
    (call $finish)))
