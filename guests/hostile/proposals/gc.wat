;; gc: a structure on the collected heap.
(module
  (type $pair (struct (field i32) (field (mut i32))))
  (func (export "_start")
    (drop (struct.new $pair (i32.const 1) (i32.const 2)))))
