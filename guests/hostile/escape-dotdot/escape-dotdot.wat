;; escape-dotdot: climbs out of its directory with "..", to read and to write.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times"
    (func $path_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
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
  (data (i32.const 1024) "\02..")
  (data (i32.const 1027) "\03../")
  (data (i32.const 1031) "\0d../secret.txt")
  (data (i32.const 1045) "\0f./../secret.txt")
  (data (i32.const 1061) "\0e..//secret.txt")
  (data (i32.const 1076) "\17../inside/../secret.txt")
  (data (i32.const 1100) "\14sub/../../secret.txt")
  (data (i32.const 1121) "\16sub/./../../secret.txt")
  (data (i32.const 1144) "\09sub/../..")
  (data (i32.const 1154) "\22../../../../../../../../etc/passwd")
  (data (i32.const 1189) "\18missing/../../secret.txt")
  (data (i32.const 1214) "\00")
  (data (i32.const 1216) " ")
  (data (i32.const 1224) "\n")
  (data (i32.const 1232) "inside.txt ")
  (data (i32.const 1248) "mkdir")
  (data (i32.const 1256) "\ncreate")
  (data (i32.const 1264) "\nsymlink")
  (data (i32.const 1272) "\nlink")
  (data (i32.const 1280) "\nrename out")
  (data (i32.const 1296) "\nrename in")
  (data (i32.const 1312) "\nlink in")
  (data (i32.const 1320) "\nunlink")
  (data (i32.const 1328) "\nrmdir")
  (data (i32.const 1336) "\ntimes")
  (data (i32.const 1344) "ESCAPED\n")
  (data (i32.const 1352) "contained\n")
  (data (i32.const 1368) "inside.txt")
  (data (i32.const 1384) "../planted")
  (data (i32.const 1400) "../secret.txt")
  (data (i32.const 1416) "taken.txt")
  (data (i32.const 1432) "../victim")

  (func $say (param $text i32) (param $size i32)
    (i32.store (i32.const 0) (local.get $text))
    (i32.store (i32.const 4) (local.get $size))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $number (param $n i32)
    (if (i32.ge_u (local.get $n) (i32.const 10))
      (then (call $number (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store8 (i32.const 16) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (call $say (i32.const 16) (i32.const 1)))

  (global $escaped (mut i32) (i32.const 0))

  ;; Prints an error number; 0 means that a forbidden operation succeeded.
  (func $note (param $errno i32)
    (call $say (i32.const 1216) (i32.const 1))
    (call $number (local.get $errno))
    (if (i32.eqz (local.get $errno)) (then (global.set $escaped (i32.const 1)))))

  ;; Tries each path of the list at $at: a length byte and the path, until a length of zero.
  (func $try_all (param $at i32)
    (local $size i32)
    (block $done
      (loop $next
        (local.set $size (i32.load8_u (local.get $at)))
        (br_if $done (i32.eqz (local.get $size)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (call $say (local.get $at) (local.get $size))
        (call $try (local.get $at) (local.get $size))
        (call $say (i32.const 1224) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (local.get $size)))
        (br $next))))

  ;; A permitted path, for comparison: 0 with a grant, 8 without.
  (func $inside
    (call $say (i32.const 1232) (i32.const 11))
    (call $number
      (call $path_open (i32.const 3) (i32.const 1) (i32.const 1368) (i32.const 10)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $say (i32.const 1224) (i32.const 1)))

  ;; Opens the path for reading, following links, then asks for its attributes and for its target as a link.
  (func $try (param $path i32) (param $size i32)
    (call $note (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $size)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $note
      (call $path_filestat_get (i32.const 3) (i32.const 1) (local.get $path) (local.get $size) (i32.const 128)))
    (call $note (call $path_readlink (i32.const 3) (local.get $path) (local.get $size)
      (i32.const 256) (i32.const 256) (i32.const 64))))

  ;; Tries to create files outside, or to remove files from there; "inside.txt" exists.
  (func $change
    (call $say (i32.const 1248) (i32.const 5))
    (call $note (call $path_create_directory (i32.const 3) (i32.const 1384) (i32.const 10)))
    (call $say (i32.const 1256) (i32.const 7))
    (call $note
      (call $path_open (i32.const 3) (i32.const 0) (i32.const 1384) (i32.const 10)
        (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $say (i32.const 1264) (i32.const 8))
    (call $note (call $path_symlink (i32.const 1368) (i32.const 10) (i32.const 3) (i32.const 1384) (i32.const 10)))
    (call $say (i32.const 1272) (i32.const 5))
    (call $note
      (call $path_link (i32.const 3) (i32.const 0) (i32.const 1368) (i32.const 10) (i32.const 3)
        (i32.const 1384) (i32.const 10)))
    (call $say (i32.const 1280) (i32.const 11))
    (call $note (call $path_rename (i32.const 3) (i32.const 1368) (i32.const 10) (i32.const 3)
      (i32.const 1384) (i32.const 10)))
    (call $say (i32.const 1296) (i32.const 10))
    (call $note (call $path_rename (i32.const 3) (i32.const 1400) (i32.const 13) (i32.const 3)
      (i32.const 1416) (i32.const 9)))
    (call $say (i32.const 1312) (i32.const 8))
    (call $note
      (call $path_link (i32.const 3) (i32.const 0) (i32.const 1400) (i32.const 13) (i32.const 3)
        (i32.const 1416) (i32.const 9)))
    (call $say (i32.const 1320) (i32.const 7))
    (call $note (call $path_unlink_file (i32.const 3) (i32.const 1400) (i32.const 13)))
    (call $say (i32.const 1328) (i32.const 6))
    (call $note (call $path_remove_directory (i32.const 3) (i32.const 1432) (i32.const 9)))
    (call $say (i32.const 1336) (i32.const 6))
    (call $note
      (call $path_filestat_set_times (i32.const 3) (i32.const 1) (i32.const 1400) (i32.const 13)
        (i64.const 0) (i64.const 0) (i32.const 5)))
    (call $say (i32.const 1224) (i32.const 1)))

  (func $finish
    (if (global.get $escaped)
      (then
        (call $say (i32.const 1344) (i32.const 8))
        (call $proc_exit (i32.const 66))))
    (call $say (i32.const 1352) (i32.const 10)))

  (func (export "_start")
    (call $inside)
    (call $try_all (i32.const 1024))
    (call $change)
    (call $finish)))
