;; An export that is the type of a function, where a function is expected, and one of an interface.
(component
  (type $f (func))
  (type $i (instance (export "g" (func))))
  (export "any" (type $f))
  (export "other" (type $i)))
