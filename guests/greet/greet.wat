;; greet: calls the host function env.log(pointer, length) with text in its memory.
(module
  (import "env" "log" (func $log (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "hello, ")
  (data (i32.const 64) "world")

  ;; Logs "hello, " and the $size bytes at $name, at most 1024 of them.
  (func $greet_name (export "greet_name") (param $name i32) (param $size i32)
    (if (i32.gt_u (local.get $size) (i32.const 1024)) (then (local.set $size (i32.const 1024))))
    (memory.copy (i32.const 4096) (i32.const 0) (i32.const 7))
    (memory.copy (i32.const 4103) (local.get $name) (local.get $size))
    (call $log (i32.const 4096) (i32.add (local.get $size) (i32.const 7))))

  (func $greet (export "greet")
    (call $greet_name (i32.const 64) (i32.const 5)))
  (export "main" (func $greet)))
