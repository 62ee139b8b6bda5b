;; Reads the header of a file that begins with four magic bytes.
(component
  (core module $m
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    ;; Arguments are stored above 4096; each export frees them after reading them.
    (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $want i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $want)))
      (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
        (then (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get $want) (i32.const 16)) (i32.const 1))) (i32.const -1))
          (then unreachable))))
      (local.get $at))
    (func $free (global.set $next (i32.const 4096)))
    (func (export "version") (param $at i32) (param $size i32) (result i32)
      (call $free)
      (if (i32.lt_u (local.get $size) (i32.const 4)) (then (return (i32.const -1))))
      (if (i32.ne (i32.load (local.get $at)) (i32.const 0x1a4b4151)) (then (return (i32.const -2))))  ;; "QAK" and 26
      ;; A file without a version after the magic bytes should be an error.
      (if (i32.lt_u (local.get $size) (i32.const 5)) (then unreachable))
      (i32.load8_u offset=4 (local.get $at)))
  )
  (core instance $m (instantiate $m))
  (func (export "version") (param "file" (list u8)) (result s32) (canon lift (core func $m "version") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
