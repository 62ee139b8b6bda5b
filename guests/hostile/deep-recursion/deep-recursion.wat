;; deep-recursion: calls itself without end; each call keeps a value on the stack.
(module
  (func $dive (param $depth i32) (result i32)
    (i32.add (i32.const 1) (call $dive (i32.add (local.get $depth) (i32.const 1)))))
  (func (export "_start") (drop (call $dive (i32.const 0))))
  (func (export "dive") (result i32) (call $dive (i32.const 0)))

  ;; Recurses $depth deep and comes back.
  (func $down (export "down") (param $depth i32) (result i32)
    (if (result i32) (local.get $depth)
      (then (i32.add (i32.const 1) (call $down (i32.sub (local.get $depth) (i32.const 1)))))
      (else (i32.const 0)))))
