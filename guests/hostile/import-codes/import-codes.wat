;; import-codes: imports missing functions under names with terminal control sequences.
(module
  (import "\1b[2J\1b]0;owned\07" "one\0aaegis: granted" (func))
  (import "wasi_snapshot_preview1" "fd_\1b[31mread" (func (param i32) (result i32)))
  (import "env" "" (func (param i64 f32) (result f64)))
  (import "env" "\e2\80\aeesrever" (global i32))
  (import "" "memory" (memory 1))

  (func (export "_start") (call 0)))
