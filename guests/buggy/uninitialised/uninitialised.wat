;; Computes a checksum of a text, starting from an uninitialised cell, whose value differs from run to run.
(component
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core module $m
    (import "" "random" (func $random (result i64)))
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
    (global $seed (mut i64) (i64.const 0))
    (func (export "checksum") (param $at i32) (param $size i32) (result i64) (local $n i32) (local $sum i64)
      (call $free)
      ;; Simulates memory with old contents: the sum starts with the value found there.
      (if (i64.eqz (global.get $seed)) (then (global.set $seed (call $random))))
      (local.set $sum (i64.and (global.get $seed) (i64.const 255)))
      (block $done (loop $next
        (br_if $done (i32.eq (local.get $n) (local.get $size)))
        (local.set $sum (i64.add (local.get $sum) (i64.load8_u (i32.add (local.get $at) (local.get $n)))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
      (local.get $sum))
  )
  (core instance $m (instantiate $m (with "" (instance (export "random" (func $random))))))
  (func (export "checksum") (param "text" string) (result u64) (canon lift (core func $m "checksum") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
