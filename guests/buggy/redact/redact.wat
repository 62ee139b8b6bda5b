;; Counts the addresses in a text, such as a@example, and removes them.
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
    (func (export "redact") (param $at i32) (param $size i32) (result i32)
      (local $n i32) (local $from i32) (local $found i32)
      (call $free)
      (block $done
        (loop $each
          (br_if $done (i32.ge_u (local.get $n) (local.get $size)))
          (if (i32.eq (i32.load8_u (i32.add (local.get $at) (local.get $n))) (i32.const 64))  ;; "@"
            (then
              (local.set $found (i32.add (local.get $found) (i32.const 1)))
              ;; The rest of the text moves by one byte for each address: together, this takes quadratic time.
              (local.set $from (local.get $n))
              (local.set $size (i32.sub (local.get $size) (i32.const 1)))
              (block $moved
                (loop $move
                  (br_if $moved (i32.ge_u (local.get $from) (local.get $size)))
                  (i32.store8 (i32.add (local.get $at) (local.get $from))
                    (i32.load8_u offset=1 (i32.add (local.get $at) (local.get $from))))
                  (local.set $from (i32.add (local.get $from) (i32.const 1)))
                  (br $move))))
            (else (local.set $n (i32.add (local.get $n) (i32.const 1)))))
          (br $each)))
      (local.get $found))
  )
  (core instance $m (instantiate $m))
  (func (export "redact") (param "text" string) (result u32) (canon lift (core func $m "redact") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
