;; table-grown: grows a table, a hundred elements at a time.
(module
  (table $t (export "table") 0 funcref)

  ;; Grows until a growth is refused, and returns the number of elements.
  (func $grow (export "polite") (result i32)
    (loop $again
      (br_if $again
        (i32.ne (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1))))
    (table.size $t))

  (func (export "_start")
    (drop (call $grow))
    unreachable))
