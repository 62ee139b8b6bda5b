;; unwind-host: calls a host function that raises, and has code after the call.
(module
  (import "env" "raise" (func $raise))
  (import "env" "value" (func $value (result i32)))

  (global $reached (export "flag") (mut i32) (i32.const 0))

  (func $call
    (call $raise)
    (global.set $reached (i32.const 1)))

  (func (export "run") (call $call))

  ;; The same with guest frames in between, and a result that the call should have returned.
  (func $deep (param $depth i32) (result i32)
    (if (result i32) (local.get $depth)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get $depth) (i32.const 1)))))
      (else
        (global.set $reached (i32.add (i32.const 2) (call $value)))
        (i32.const 0))))
  (func (export "run_deep") (result i32) (call $deep (i32.const 50)))

  ;; Returns whether any code ran after a host function raised; must be 0.
  (func (export "reached") (result i32) (global.get $reached)))
