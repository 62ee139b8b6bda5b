;; Sums a list in a table of 64 entries, and assumes that the 64th element does not fit.
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
    (func (export "sum") (param $at i32) (param $count i32) (result i64) (local $sum i64) (local $n i32)
      (call $free)
      ;; Longer lists are summed in another way; with 64 elements the table is exactly full, which is mistaken for overflow.
      (if (i32.eq (local.get $count) (i32.const 64)) (then unreachable))
      (block $done (loop $next
        (br_if $done (i32.eq (local.get $n) (local.get $count)))
        (local.set $sum (i64.add (local.get $sum) (i64.load32_u (i32.add (local.get $at) (i32.shl (local.get $n) (i32.const 2))))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
      (local.get $sum))
  )
  (core instance $m (instantiate $m))
  (func (export "sum") (param "xs" (list u32)) (result u64) (canon lift (core func $m "sum") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
