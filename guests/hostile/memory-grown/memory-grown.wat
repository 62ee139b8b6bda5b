;; memory-grown: takes memory page by page and touches every page.
(module
  (memory (export "memory") 1)

  ;; Grows until a growth is refused, writes to each page, and returns the number of pages.
  (func $grow (export "polite") (result i32)
    (block $refused
      (loop $again
        (br_if $refused (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (i32.store (i32.shl (i32.sub (memory.size) (i32.const 1)) (i32.const 16)) (i32.const 1))
        (br $again)))
    (memory.size))

  ;; Traps if the growth is refused.
  (func (export "_start")
    (drop (call $grow))
    unreachable))
