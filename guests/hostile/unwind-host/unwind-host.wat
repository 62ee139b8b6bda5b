;; unwind-host: calls a host function that raises, and would like to go on.
(module
  (import "env" "raise" (func $raise))
  (import "env" "value" (func $value (result i32)))

  (global $reached (export "flag") (mut i32) (i32.const 0))

  (func $call
    (call $raise)
    (global.set $reached (i32.const 1)))

  (func (export "run") (call $call))

  ;; The same with frames of the guest in between, and a value that the call should have given.
  (func $deep (param $depth i32) (result i32)
    (if (result i32) (local.get $depth)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get $depth) (i32.const 1)))))
      (else
        (global.set $reached (i32.add (i32.const 2) (call $value)))
        (i32.const 0))))
  (func (export "run_deep") (result i32) (call $deep (i32.const 50)))

  ;; Did anything run after a host function raised? It must not, and this says 0.
  (func (export "reached") (result i32) (global.get $reached)))
