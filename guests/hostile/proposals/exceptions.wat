;; exceptions: a tag, thrown.
(module
  (tag $oops (export "oops") (param i32))
  (func (export "_start") (throw $oops (i32.const 1))))
