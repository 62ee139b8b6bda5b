;; counter: state in a mutable global and in memory, so that sandboxes can be distinguished.
(module
  (memory (export "memory") 1 4)
  (global $count (export "count") (mut i32) (i32.const 0))
  (global (export "limit") i64 (i64.const 1000000))
  (data (i32.const 16) "counter")

  ;; Adds one, in the global and in the first word of memory, and returns the new count.
  (func $increment (export "increment") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 0) (global.get $count))
    (global.get $count))

  (func (export "get") (result i32) (global.get $count))
  (func (export "stored") (result i32) (i32.load (i32.const 0)))

  ;; Grows the memory by $pages; the old size in pages, or -1.
  (func (export "grow") (param $pages i32) (result i32) (memory.grow (local.get $pages)))

  ;; Counts once, then traps: the new count remains, and the sandbox is poisoned.
  (func (export "fail")
    (drop (call $increment))
    unreachable))
