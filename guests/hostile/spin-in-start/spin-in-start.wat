;; spin-in-start: never ends in its start function, which runs before any export can be called.
(module
  (func $spin
    (loop $again (br $again)))
  (start $spin)
  (func (export "_start")))
