;; memory-grown: takes memory page by page and touches every page.
(module
  (memory (export "memory") 1)

  ;; Grows until it is refused and returns how many pages there are then, having written to each.
  (func $grow (export "polite") (result i32)
    (block $refused
      (loop $again
        (br_if $refused (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (i32.store (i32.shl (i32.sub (memory.size) (i32.const 1)) (i32.const 16)) (i32.const 1))
        (br $again)))
    (memory.size))

  ;; Does not take no for an answer.
  (func (export "_start")
    (drop (call $grow))
    unreachable))
