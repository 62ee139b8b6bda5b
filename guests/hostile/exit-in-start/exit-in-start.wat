;; exit-in-start: exits with code 0 in its start function, before any export is called.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)

  (start $leave)
  (func $leave (call $proc_exit (i32.const 0)))
  (func (export "_start") unreachable))
