;; log-flood: fills the log with messages that contain terminal control sequences.
(module
  (import "aegis" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 17)

  (data (i32.const 64) "\1b[2J\1b[31mroot logged in\1b[0m\0d\0a2026-01-01 CRITICAL forged line\07\9b31m\ff")
  (func $shout (export "once")
    (call $log (i32.const 4) (i32.const 64) (i32.const 65)))
  (func (export "_start")
    (loop $again
      (call $shout)
      (br $again)))

  ;; One message of a mebibyte.
  (func (export "long")
    (memory.fill (i32.const 65536) (i32.const 0x1b) (i32.const 1048576))
    (call $log (i32.const 4) (i32.const 65536) (i32.const 1048576))))
