;; v128-import: a vector in the signature of an import.
(module
  (import "env" "vector" (func $vector (param v128) (result v128)))
  (func (export "_start") (drop (call $vector (v128.const i64x2 1 2)))))
