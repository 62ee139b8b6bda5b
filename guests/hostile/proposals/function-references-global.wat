;; function-references-global: a typed reference in the type of an exported global.
(module
  (type $nothing (func))
  (global (export "g") (ref null $nothing) (ref.null $nothing))
  (func (export "_start")))
