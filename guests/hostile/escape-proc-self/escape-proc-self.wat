;; escape-proc-self: looks for the process that it runs in.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink"
    (func $path_readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "\12/proc/self/environ")
  (data (i32.const 1043) "\11proc/self/environ")
  (data (i32.const 1061) "\23../../../../../../proc/self/environ")
  (data (i32.const 1097) "\0e/proc/self/mem")
  (data (i32.const 1112) "\1a/proc/self/root/etc/passwd")
  (data (i32.const 1139) "\0e/proc/self/cwd")
  (data (i32.const 1154) "\0f/proc/self/fd/0")
  (data (i32.const 1170) "\0f/proc/self/maps")
  (data (i32.const 1186) "\0f/proc/1/environ")
  (data (i32.const 1202) "\09/dev/fd/0")
  (data (i32.const 1212) "\0a/dev/stdin")
  (data (i32.const 1223) "\0b/sys/kernel")
  (data (i32.const 1235) "\00")
  (data (i32.const 1240) " ")
  (data (i32.const 1248) "\n")
  (data (i32.const 1256) "inside.txt ")
  (data (i32.const 1272) "ESCAPED\n")
  (data (i32.const 1280) "contained\n")
  (data (i32.const 1296) "inside.txt")

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
    (call $say (i32.const 1240) (i32.const 1))
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
        (call $say (i32.const 1248) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (local.get $size)))
        (br $next))))

  ;; A permitted path, for comparison: 0 with a grant, 8 without.
  (func $inside
    (call $say (i32.const 1256) (i32.const 11))
    (call $number
      (call $path_open (i32.const 3) (i32.const 1) (i32.const 1296) (i32.const 10)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $say (i32.const 1248) (i32.const 1)))

  ;; Opens the path for reading, following links, then asks for its attributes and for its target as a link.
  (func $try (param $path i32) (param $size i32)
    (call $note (call $path_open (i32.const 3) (i32.const 1) (local.get $path) (local.get $size)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $note
      (call $path_filestat_get (i32.const 3) (i32.const 1) (local.get $path) (local.get $size) (i32.const 128)))
    (call $note (call $path_readlink (i32.const 3) (local.get $path) (local.get $size)
      (i32.const 256) (i32.const 256) (i32.const 64))))

  (func $finish
    (if (global.get $escaped)
      (then
        (call $say (i32.const 1272) (i32.const 8))
        (call $proc_exit (i32.const 66))))
    (call $say (i32.const 1280) (i32.const 10)))

  (func (export "_start")
    (call $inside)
    (call $try_all (i32.const 1024))
    (call $finish)))
