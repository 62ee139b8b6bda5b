;; Counts the quoted words in a text, and reads past its end if a quote is not closed.
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func (export "alloc") (param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    ;; An allocation that would exceed the memory is refused: the address is 0.
    (if (i32.gt_u (local.get $size) (i32.sub (i32.const 65536) (local.get $at))) (then (return (i32.const 0))))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (local.get $at))
  (func (export "dealloc") (param $at i32) (param $size i32)
    ;; Frees the latest allocation.
    (if (i32.eq (i32.add (local.get $at) (local.get $size)) (global.get $next))
      (then (memory.fill (local.get $at) (i32.const 0) (local.get $size)) (global.set $next (local.get $at)))))
  (func (export "quoted") (param $text i32) (param $length i32) (result i32) (local $end i32) (local $words i32)
    ;; Addresses that were never allocated return -1 and are not read.
    (if (i32.or (i32.lt_u (local.get $text) (i32.const 1024))
          (i32.gt_u (local.get $length) (i32.sub (global.get $next) (local.get $text))))
      (then (return (i32.const -1))))
    (if (i32.gt_u (local.get $text) (global.get $next)) (then (return (i32.const -1))))
    (local.set $end (i32.add (local.get $text) (local.get $length)))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $text) (local.get $end)))
      (if (i32.eq (i32.load8_u (local.get $text)) (i32.const 34)) (then
        (local.set $words (i32.add (local.get $words) (i32.const 1)))
        ;; Scans to the closing quote, wherever that is.
        (loop $inside
          (local.set $text (i32.add (local.get $text) (i32.const 1)))
          (br_if $inside (i32.ne (i32.load8_u (local.get $text)) (i32.const 34))))))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (br $next)))
    (local.get $words)))
