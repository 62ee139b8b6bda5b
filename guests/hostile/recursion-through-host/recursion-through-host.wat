;; recursion-through-host: calls a host function that calls this guest again, and so on.
;;
;; The embedder supplies env.again, which calls the export `run`.
(module
  (import "env" "again" (func $again))

  (global $depth (export "depth") (mut i32) (i32.const 0))
  (func (export "run")
    (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
    (call $again)))
