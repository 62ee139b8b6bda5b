;; Reads a frame: a start byte, a kind, data, and a last byte that is the exclusive or of all others.
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
    (func (export "frame") (param $at i32) (param $size i32) (result i32)
      (local $n i32) (local $sum i32)
      (call $free)
      (if (i32.lt_u (local.get $size) (i32.const 4)) (then (return (i32.const -1))))
      (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 0xa5)) (then (return (i32.const -2))))
      (loop $each
        (local.set $sum (i32.xor (local.get $sum) (i32.load8_u (i32.add (local.get $at) (local.get $n)))))
        (br_if $each (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.sub (local.get $size) (i32.const 1)))))
      (if (i32.ne (local.get $sum) (i32.load8_u (i32.add (local.get $at) (local.get $n)))) (then (return (i32.const -3))))
      (if (i32.eq (i32.load8_u offset=1 (local.get $at)) (i32.const 0x7e))
        (then
          ;; A level above 240 should be an error.
          (if (i32.gt_u (i32.load8_u offset=2 (local.get $at)) (i32.const 0xf0)) (then unreachable))
          (return (i32.load8_u offset=2 (local.get $at)))))
      (i32.const 0))
  )
  (core instance $m (instantiate $m))
  (func (export "frame") (param "data" (list u8)) (result s32) (canon lift (core func $m "frame") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
