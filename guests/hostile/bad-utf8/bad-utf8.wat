;; bad-utf8: names files by bytes that are not UTF-8, or that hold a NUL.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink"
    (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $path_remove_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\01\ff")
  (data (i32.const 1026) "\01\80")
  (data (i32.const 1028) "\03a\e2\82")
  (data (i32.const 1032) "\02\c0\af")
  (data (i32.const 1035) "\02\c0\80")
  (data (i32.const 1038) "\03\ed\a0\80")
  (data (i32.const 1042) "\04\f4\90\80\80")
  (data (i32.const 1047) "\03x\fey")
  (data (i32.const 1051) "\04gr\fc\df")
  (data (i32.const 1056) "\03a\00b")
  (data (i32.const 1060) "\05name\00")
  (data (i32.const 1066) "\01\00")
  (data (i32.const 1068) "\00")
  (data (i32.const 1072) " ")
  (data (i32.const 1080) "name ")
  (data (i32.const 1088) ":")
  (data (i32.const 1096) "\n")
  (data (i32.const 1104) "ACCEPTED\n")
  (data (i32.const 1120) "refused\n")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (global $accepted (mut i32) (i32.const 0))

  ;; Prints an error number; 0 means that a forbidden operation succeeded.
  (func $note (param $errno i32)
    (call $say (i32.const 1072) (i32.const 1))
    (call $number (local.get $errno))
    (if (i32.eqz (local.get $errno)) (then (global.set $accepted (i32.const 1)))))

  ;; Tries the name of $size bytes with each function that takes one.
  (func $try (param $path i32) (param $size i32)
    (call $note (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $size)
      (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $note (call $path_create_directory (i32.const 3) (local.get $path) (local.get $size)))
    (call $note
      (call $path_filestat_get (i32.const 3) (i32.const 0) (local.get $path) (local.get $size) (i32.const 128)))
    (call $note (call $path_readlink (i32.const 3) (local.get $path) (local.get $size)
      (i32.const 256) (i32.const 256) (i32.const 64)))
    (call $note (call $path_rename (i32.const 3) (local.get $path) (local.get $size)
      (i32.const 3) (local.get $path) (local.get $size)))
    (call $note (call $path_symlink (local.get $path) (local.get $size)
      (i32.const 3) (local.get $path) (local.get $size)))
    (call $note (call $path_unlink_file (i32.const 3) (local.get $path) (local.get $size)))
    (call $note (call $path_remove_directory (i32.const 3) (local.get $path) (local.get $size))))

  (func $try_all (param $at i32)
    (local $size i32) (local $count i32)
    (block $done
      (loop $next
        (local.set $size (i32.load8_u (local.get $at)))
        (br_if $done (i32.eqz (local.get $size)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (call $say (i32.const 1080) (i32.const 5))
        (call $number (local.get $count))
        (call $say (i32.const 1088) (i32.const 1))
        (call $try (local.get $at) (local.get $size))
        (call $say (i32.const 1096) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (local.get $size)))
        (br $next))))

  ;; In order: a lone byte, a lone continuation, a sequence cut short, an overlong slash, an overlong NUL, a
  ;; surrogate, beyond
  ;; U+10FFFF, a byte that never occurs, Latin-1, a NUL inside, a NUL at the end, a NUL alone.
  (func (export "_start")
    (call $try_all (i32.const 1024))
    (if (global.get $accepted)
      (then
        (call $say (i32.const 1104) (i32.const 9))
        (call $proc_exit (i32.const 66))))
    (call $say (i32.const 1120) (i32.const 8))))
