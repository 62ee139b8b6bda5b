;; echo: the embedder writes bytes into the guest's memory and gets an altered copy back.
;;
;; `allocate` is a bump allocator; `echo` copies the text with ASCII in upper case, and returns the copy as
;; (pointer, length); `free_all` frees every allocation.
(module
  (memory (export "memory") 1 16)
  (global $top (mut i32) (i32.const 1024))

  ;; Returns a pointer to $size new bytes, or 0 if the memory is exhausted.
  (func $allocate (export "allocate") (param $size i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (global.get $top))
    (local.set $end (i32.add (local.get $at) (local.get $size)))
    (if (i32.lt_u (local.get $end) (local.get $at)) (then (return (i32.const 0))))
    (block $fits
      (br_if $fits (i32.le_u (local.get $end) (i32.shl (memory.size) (i32.const 16))))
      (br_if $fits
        (i32.ge_s
          (memory.grow
            (i32.sub
              (i32.add (i32.shr_u (local.get $end) (i32.const 16)) (i32.const 1))
              (memory.size)))
          (i32.const 0)))
      (return (i32.const 0)))
    (global.set $top (local.get $end))
    (local.get $at))

  (func (export "free_all")
    (global.set $top (i32.const 1024)))

  (func $upper (param $byte i32) (result i32)
    (if (result i32) (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26))
      (then (i32.sub (local.get $byte) (i32.const 32)))
      (else (local.get $byte))))

  ;; Returns address and length of the result; (0, 0) if the memory is exhausted.
  (func (export "echo") (param $text i32) (param $size i32) (result i32 i32)
    (local $answer i32) (local $index i32)
    (local.set $answer (call $allocate (local.get $size)))
    (if (i32.eqz (local.get $answer)) (then (return (i32.const 0) (i32.const 0))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $size)))
        (i32.store8 (i32.add (local.get $answer) (local.get $index))
          (call $upper (i32.load8_u (i32.add (local.get $text) (local.get $index)))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (local.get $answer) (local.get $size)))
