;; v128-export: vectors in the types of an exported function and global.
(module
  (global (export "g") (mut v128) (v128.const i64x2 1 2))
  (func (export "same") (param v128) (result v128) (local.get 0))
  (func (export "_start")))
