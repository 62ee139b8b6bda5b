;; escape-symlink: follows links that lead out, planted by another process or by itself.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\0dlink-absolute")
  (data (i32.const 1038) "\0dlink-relative")
  (data (i32.const 1052) "\19link-directory/secret.txt")
  (data (i32.const 1078) "\20link-directory/inside/inside.txt")
  (data (i32.const 1111) "\0alink-chain")
  (data (i32.const 1122) "\0alink-magic")
  (data (i32.const 1133) "\09link-loop")
  (data (i32.const 1143) "\0elink-absolute/")
  (data (i32.const 1158) "\0dlink-dangling")
  (data (i32.const 1172) "\00")
  (data (i32.const 1176) "\0dmade-relative")
  (data (i32.const 1190) "\17made-upwards/secret.txt")
  (data (i32.const 1214) "\00")
  (data (i32.const 1216) " ")
  (data (i32.const 1224) "\n")
  (data (i32.const 1232) "inside.txt ")
  (data (i32.const 1248) "plant relative ")
  (data (i32.const 1264) "\nplant upwards ")
  (data (i32.const 1280) "\nplant absolute")
  (data (i32.const 1296) "ESCAPED\n")
  (data (i32.const 1304) "contained\n")
  (data (i32.const 1320) "inside.txt")
  (data (i32.const 1336) "../secret.txt")
  (data (i32.const 1352) "made-relative")
  (data (i32.const 1368) "..")
  (data (i32.const 1376) "made-upwards")
  (data (i32.const 1392) "/etc/passwd")
  (data (i32.const 1408) "made-absolute")

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
      (call $path_open (i32.const 3) (i32.const 1) (i32.const 1320) (i32.const 10)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $say (i32.const 1224) (i32.const 1)))

  ;; Opens the path for reading, following links; gets the attributes of the link's target; creates it.
  (func $try (param $path i32) (param $size i32)
    (call $note (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $size)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $note
      (call $path_filestat_get (i32.const 3) (i32.const 1) (local.get $path) (local.get $size) (i32.const 128)))
    (call $note (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $size)
      (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64))))

  ;; If a host lets the guest create a link to the outside, the guest must not be able to follow it. Absolute links are refused
  ;; everywhere.
  (global $planted (mut i32) (i32.const 0))
  (func $plant
    (local $errno i32)
    (call $say (i32.const 1248) (i32.const 15))
    (local.set $errno
      (call $path_symlink (i32.const 1336) (i32.const 13) (i32.const 3) (i32.const 1352) (i32.const 13)))
    (global.set $planted (i32.eqz (local.get $errno)))
    (call $number (local.get $errno))
    (call $say (i32.const 1264) (i32.const 15))
    (call $number (call $path_symlink (i32.const 1368) (i32.const 2) (i32.const 3) (i32.const 1376) (i32.const 12)))
    (call $say (i32.const 1280) (i32.const 15))
    (call $note (call $path_symlink (i32.const 1392) (i32.const 11) (i32.const 3) (i32.const 1408) (i32.const 13)))
    (call $say (i32.const 1224) (i32.const 1)))

  (func $finish
    (if (global.get $escaped)
      (then
        (call $say (i32.const 1296) (i32.const 8))
        (call $proc_exit (i32.const 66))))
    (call $say (i32.const 1304) (i32.const 10)))

  (func (export "_start")
    (call $inside)
    (call $try_all (i32.const 1024))
    (call $plant)
    (if (global.get $planted) (then (call $try_all (i32.const 1176))))
    (call $finish)))
