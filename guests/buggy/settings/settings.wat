;; Reads lines such as "level=7", with the keys "level" and "mode".
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
    (data (i32.const 16) "level=")
    (data (i32.const 32) "mode=fast")
    (func $begins (param $at i32) (param $end i32) (param $word i32) (param $size i32) (result i32)
      (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (local.get $end)) (then (return (i32.const 0))))
      (loop $each
        (if (i32.ne (i32.load8_u (local.get $at)) (i32.load8_u (local.get $word))) (then (return (i32.const 0))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $word (i32.add (local.get $word) (i32.const 1)))
        (br_if $each (local.tee $size (i32.sub (local.get $size) (i32.const 1)))))
      (i32.const 1))
    (func (export "load") (param $at i32) (param $size i32) (result i32)
      (local $end i32) (local $byte i32) (local $level i32) (local $fast i32)
      (call $free)
      (local.set $end (i32.add (local.get $at) (local.get $size)))
      (local.set $level (i32.const 1))
      (block $done
        (loop $line
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (if (call $begins (local.get $at) (local.get $end) (i32.const 16) (i32.const 6))
            (then
              (local.set $at (i32.add (local.get $at) (i32.const 6)))
              (local.set $level (i32.const 0))
              (block $number
                (loop $digit
                  (br_if $number (i32.ge_u (local.get $at) (local.get $end)))
                  (local.set $byte (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
                  (br_if $number (i32.gt_u (local.get $byte) (i32.const 9)))
                  (local.set $level (i32.add (i32.mul (local.get $level) (i32.const 10)) (local.get $byte)))
                  (local.set $at (i32.add (local.get $at) (i32.const 1)))
                  (br $digit))))
            (else
              (if (i32.eqz (call $begins (local.get $at) (local.get $end) (i32.const 32) (i32.const 9)))
                (then (return (i32.const -1))))
              (local.set $fast (i32.const 1))
              (local.set $at (i32.add (local.get $at) (i32.const 9)))))
          (if (i32.lt_u (local.get $at) (local.get $end))
            (then
              (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 10)) (then (return (i32.const -2))))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))))
          (br $line)))
      (if (i32.eq (local.get $level) (i32.const 1984)) (then (return (i32.const -3))))
      ;; The level 0 in the fast mode should be an error.
      (if (result i32) (local.get $fast)
        (then (i32.div_u (i32.const 1000) (local.get $level)))
        (else (local.get $level))))
  )
  (core instance $m (instantiate $m))
  (func (export "load") (param "text" string) (result s32) (canon lift (core func $m "load") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
