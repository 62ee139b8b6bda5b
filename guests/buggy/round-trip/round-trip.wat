;; Converts a float to bits and back; on the way -0.0 becomes 0.0.
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
    (func (export "encode") (param $x f64) (result i64)
      (i64.reinterpret_f64 (f64.add (local.get $x) (f64.const 0))))
    (func (export "decode") (param $bits i64) (result f64)
      (f64.reinterpret_i64 (local.get $bits)))
  )
  (core instance $m (instantiate $m))
  (func (export "encode") (param "x" f64) (result u64) (canon lift (core func $m "encode")))
  (func (export "decode") (param "bits" u64) (result f64) (canon lift (core func $m "decode")))
)
