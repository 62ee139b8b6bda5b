;; function-references: a call through a typed reference.
(module
  (type $nothing (func))
  (elem declare func $callee)
  (func $callee)
  (func (export "_start") (call_ref $nothing (ref.func $callee))))
