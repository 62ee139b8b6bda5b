;; table64: a table with 64-bit indices, part of memory64.
(module
  (table (export "table") i64 1 funcref)
  (func (export "_start")))
