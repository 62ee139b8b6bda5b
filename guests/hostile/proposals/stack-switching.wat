;; stack-switching: a continuation.
(module
  (type $f (func))
  (type $k (cont $f))
  (elem declare func $callee)
  (func $callee)
  (func (export "_start") (drop (cont.new $k (ref.func $callee)))))
