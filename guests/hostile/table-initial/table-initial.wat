;; table-initial: asks for a table of ten million elements.
(module
  (table 10000000 funcref)
  (func (export "_start")))
