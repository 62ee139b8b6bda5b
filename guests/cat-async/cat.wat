;; Copies through a buffer of 64 KiB: synchronous reads and writes of streams, in a function of an async type.
;; sleep: many asynchronous calls, waited for by a callback.
(module
  (import "wasi:cli/stdin@0.3.0" "read-via-stream" (func $stdin (param i32)))
  (import "wasi:cli/stdin@0.3.0" "[stream-read-0]read-via-stream" (func $read (param i32 i32 i32) (result i32)))
  (import "wasi:cli/stdin@0.3.0" "[stream-drop-readable-0]read-via-stream" (func $end-reading (param i32)))
  (import "wasi:cli/stdout@0.3.0" "write-via-stream" (func $stdout (param i32) (result i32)))
  (import "wasi:cli/stdout@0.3.0" "[stream-new-0]write-via-stream" (func $pipe (result i64)))
  (import "wasi:cli/stdout@0.3.0" "[stream-write-0]write-via-stream" (func $write (param i32 i32 i32) (result i32)))
  (import "wasi:cli/stdout@0.3.0" "[stream-drop-writable-0]write-via-stream" (func $end-writing (param i32)))
  (import "wasi:cli/stdout@0.3.0" "[future-read-1]write-via-stream" (func $await-output (param i32 i32) (result i32)))
  (import "wasi:filesystem/preopens@0.3.0" "get-directories" (func $directories (param i32)))
  (import "wasi:filesystem/types@0.3.0" "[method]descriptor.open-at"
    (func $open (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@0.3.0" "[method]descriptor.read-via-stream" (func $contents (param i32 i64 i32)))
  (import "wasi:filesystem/types@0.3.0" "[method]descriptor.write-via-stream"
    (func $store (param i32 i32 i64) (result i32)))
  (import "wasi:filesystem/types@0.3.0" "[future-read-1][method]descriptor.write-via-stream"
    (func $await-file (param i32 i32) (result i32)))
  (import "wasi:clocks/monotonic-clock@0.3.0" "[async-lower]wait-for" (func $wait-for (param i64) (result i32)))
  (import "$root" "[waitable-set-new]" (func $set-new (result i32)))
  (import "$root" "[waitable-join]" (func $join (param i32 i32)))
  (import "$root" "[subtask-drop]" (func $drop-subtask (param i32)))
  (import "[export]$root" "[task-return]sleep" (func $return))
  (memory (export "memory") 4)
  (data (i32.const 0) "inout")
  (global $free (mut i32) (i32.const 1024))
  (global $left (mut i32) (i32.const 0))
  (global $set (mut i32) (i32.const 0))

  ;; A list of directories is the only value that is allocated.
  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $free) (i32.const 65536)) (then (unreachable)))
    (local.get $at))

  ;; Returns a descriptor of the file in the directory; the result at 16 is a tag, then a descriptor or an error.
  (func $opened (param $directory i32) (param $name i32) (param $size i32) (param $how i32) (param $for i32) (result i32)
    (call $open (local.get $directory) (i32.const 0) (local.get $name) (local.get $size) (local.get $how)
      (local.get $for) (i32.const 16))
    (if (i32.load8_u (i32.const 16)) (then (unreachable)))
    (i32.load (i32.const 20)))

  ;; A status has the result of a copy in its lower four bits, 1 for an end that was dropped, and above its elements.
  (func $copy (param $from i32) (param $to i32)
    (local $status i32) (local $at i32) (local $end i32)
    (block $over
      (loop $next
        (local.set $status (call $read (local.get $from) (i32.const 65536) (i32.const 65536)))
        (local.set $at (i32.const 65536))
        (local.set $end (i32.add (i32.const 65536) (i32.shr_u (local.get $status) (i32.const 4))))
        (block $written
          (loop $more
            (br_if $written (i32.ge_u (local.get $at) (local.get $end)))
            (local.set $at (i32.add (local.get $at) (i32.shr_u
              (call $write (local.get $to) (local.get $at) (i32.sub (local.get $end) (local.get $at)))
              (i32.const 4))))
            (br $more)))
        (br_if $next (i32.eqz (i32.and (local.get $status) (i32.const 15))))))
    (call $end-reading (local.get $from))
    (call $end-writing (local.get $to)))

  (func (export "wasi:cli/run@0.3.0#run") (result i32)
    (local $pipe i64) (local $future i32) (local $directory i32)
    (local.set $pipe (call $pipe))
    (call $directories (i32.const 16))
    (if (i32.load (i32.const 20))
      (then
        (local.set $directory (i32.load (i32.load (i32.const 16))))
        ;; create and truncate; write
        (local.set $future (call $store
          (call $opened (local.get $directory) (i32.const 2) (i32.const 3) (i32.const 9) (i32.const 2))
          (i32.wrap_i64 (local.get $pipe)) (i64.const 0)))
        (call $contents (call $opened (local.get $directory) (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 1))
          (i64.const 0) (i32.const 32))
        (call $copy (i32.load (i32.const 32)) (i32.wrap_i64 (i64.shr_u (local.get $pipe) (i64.const 32))))
        (drop (call $await-file (local.get $future) (i32.const 48)))
        (return (i32.load8_u (i32.const 48)))))
    (local.set $future (call $stdout (i32.wrap_i64 (local.get $pipe))))
    (call $stdin (i32.const 32))
    (call $copy (i32.load (i32.const 32)) (i32.wrap_i64 (i64.shr_u (local.get $pipe) (i64.const 32))))
    (drop (call $await-output (local.get $future) (i32.const 48)))
    (i32.load8_u (i32.const 48)))

  ;; Returns 0 to exit, or 2 and the set to wait for.
  (func $next (result i32)
    (if (global.get $left) (then (return (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))))
    (call $return)
    (i32.const 0))
  (func (export "[async-lift]sleep") (param $count i32) (param $time i64) (result i32)
    (local $status i32)
    (global.set $set (call $set-new))
    (loop $all
      (if (local.get $count)
        (then
          (local.set $count (i32.sub (local.get $count) (i32.const 1)))
          (local.set $status (call $wait-for (local.get $time)))
          (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (i32.const 2))
            (then
              (call $join (i32.shr_u (local.get $status) (i32.const 4)) (global.get $set))
              (global.set $left (i32.add (global.get $left) (i32.const 1)))))
          (br $all))))
    (call $next))
  (func (export "[callback][async-lift]sleep") (param $event i32) (param $subtask i32) (param $state i32) (result i32)
    (if (i32.eq (local.get $state) (i32.const 2))
      (then
        (call $drop-subtask (local.get $subtask))
        (global.set $left (i32.sub (global.get $left) (i32.const 1)))))
    (call $next)))
