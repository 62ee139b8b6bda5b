;; wide-arithmetic: a multiplication to 128 bits.
(module
  (func (export "_start")
    (i64.mul_wide_u (i64.const 2) (i64.const 3))
    drop
    drop))
