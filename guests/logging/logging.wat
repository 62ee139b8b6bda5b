;; logging: writes one line at each level through the import aegis.log(level, pointer, length).
(module
  (import "aegis" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "trace   debug   info    warn    error   critical")
  (data (i32.const 64) "\1b[31mred\1b[0m\nsecond line\07")

  ;; The names stand eight bytes apart, in the order of their levels, 0 to 5.
  (func $say (param $level i32) (param $size i32)
    (call $log (local.get $level) (i32.shl (local.get $level) (i32.const 3)) (local.get $size)))

  (func $run (export "run")
    (call $say (i32.const 0) (i32.const 5))
    (call $say (i32.const 1) (i32.const 5))
    (call $say (i32.const 2) (i32.const 4))
    (call $say (i32.const 3) (i32.const 4))
    (call $say (i32.const 4) (i32.const 5))
    (call $say (i32.const 5) (i32.const 8)))
  (export "main" (func $run))
  (export "_start" (func $run))

  ;; A message with terminal control sequences and a forged second line.
  (func (export "paint")
    (call $log (i32.const 3) (i32.const 64) (i32.const 25)))

  ;; Levels that do not exist, and text that is not in the memory.
  (func (export "bad_level") (param $level i32)
    (call $log (local.get $level) (i32.const 0) (i32.const 5)))
  (func (export "bad_pointer") (param $pointer i32) (param $size i32)
    (call $log (i32.const 3) (local.get $pointer) (local.get $size))))
