;; Returns the midpoint of two numbers, but treats their sum as signed.
(component
  (core module $m
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    ;; Arguments are stored above 1024; each export frees them after reading them.
    (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $want i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $want)))
      (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
        (then (if (i32.eq (memory.grow (i32.add (i32.shr_u (local.get $want) (i32.const 16)) (i32.const 1))) (i32.const -1))
          (then unreachable))))
      (local.get $at))
    (func $free (global.set $next (i32.const 1024)))
    (func (export "midpoint") (param $a i32) (param $b i32) (result i32) (local $sum i64)
      (local.set $sum (i64.add (i64.extend_i32_u (local.get $a)) (i64.extend_i32_u (local.get $b))))
      ;; As in a signed i32, a sum of 2^31 or more is negative, and was used as an index.
      (if (i64.ge_u (local.get $sum) (i64.const 0x80000000)) (then unreachable))
      (i32.shr_u (i32.wrap_i64 (local.get $sum)) (i32.const 1)))
  )
  (core instance $m (instantiate $m))
  (func (export "midpoint") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $m "midpoint")))
)
