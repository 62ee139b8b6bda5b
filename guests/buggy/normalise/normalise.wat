;; Decomposes the syllables of a Korean text into a buffer.
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
    (func (export "decompose") (param $at i32) (param $size i32) (result i32)
      (local $n i32) (local $out i32) (local $char i32)
      (call $free)
      ;; Longer texts are decomposed in parts.
      (if (i32.gt_u (local.get $size) (i32.const 96)) (then (return (i32.const 0))))
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $n) (local.get $size)))
        (local.set $char (i32.load8_u (i32.add (local.get $at) (local.get $n))))
        (if (i32.and (i32.ge_u (local.get $char) (i32.const 0xea)) (i32.le_u (local.get $char) (i32.const 0xed)))
          ;; A syllable of three bytes becomes up to three letters of three bytes.
          (then
            (local.set $out (i32.add (local.get $out) (i32.const 9)))
            (local.set $n (i32.add (local.get $n) (i32.const 3))))
          (else
            (local.set $out (i32.add (local.get $out) (i32.const 1)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))))
        (br $next)))
      ;; The buffer has room for twice the longest text, which is not enough.
      (if (i32.gt_u (local.get $out) (i32.const 192)) (then unreachable))
      (local.get $out))
  )
  (core instance $m (instantiate $m))
  (func (export "decompose") (param "text" string) (result u32) (canon lift (core func $m "decompose") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
