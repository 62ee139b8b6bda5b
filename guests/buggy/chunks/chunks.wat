;; Adds up the samples of a file of chunks: "RIFF", the length of the rest, and chunks of four letters, a length and data.
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
    (func (export "samples") (param $at i32) (param $size i32) (result i32)
      (local $place i32) (local $end i32) (local $length i32) (local $total i32)
      (call $free)
      (if (i32.lt_u (local.get $size) (i32.const 8)) (then (return (i32.const -1))))
      (if (i32.ne (i32.load (local.get $at)) (i32.const 0x46464952)) (then (return (i32.const -2))))  ;; "RIFF"
      (if (i32.ne (i32.load offset=4 (local.get $at)) (i32.sub (local.get $size) (i32.const 8)))
        (then (return (i32.const -3))))
      (local.set $place (i32.add (local.get $at) (i32.const 8)))
      (local.set $end (i32.add (local.get $at) (local.get $size)))
      (block $done
        (loop $chunk
          (br_if $done (i32.gt_u (i32.add (local.get $place) (i32.const 8)) (local.get $end)))
          (local.set $length (i32.load offset=4 (local.get $place)))
          (if (i32.gt_u (local.get $length) (i32.sub (i32.sub (local.get $end) (local.get $place)) (i32.const 8)))
            (then (return (i32.const -4))))
          (if (i32.eq (i32.load (local.get $place)) (i32.const 0x20746d66))  ;; "fmt "
            (then
              (if (i32.ne (local.get $length) (i32.const 6)) (then (return (i32.const -5))))
              (if (i32.load16_u offset=8 (local.get $place)) (then (return (i32.const -6))))  ;; a reserved field
              ;; A file without channels should be an error.
              (local.set $total (i32.add (local.get $total)
                (i32.div_u (i32.load16_u offset=10 (local.get $place)) (i32.load16_u offset=12 (local.get $place)))))))
          (local.set $place (i32.add (i32.add (local.get $place) (i32.const 8)) (local.get $length)))
          (br $chunk)))
      (local.get $total))
  )
  (core instance $m (instantiate $m))
  (func (export "samples") (param "file" (list u8)) (result s32) (canon lift (core func $m "samples") (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
)
