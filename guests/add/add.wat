;; add: pure functions, one for each number type, with no imports and no memory.
(module
  (func (export "add") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))
  (func (export "add64") (param $a i64) (param $b i64) (result i64)
    (i64.add (local.get $a) (local.get $b)))
  (func (export "addf") (param $a f64) (param $b f64) (result f64)
    (f64.add (local.get $a) (local.get $b)))
  (func (export "addf32") (param $a f32) (param $b f32) (result f32)
    (f32.add (local.get $a) (local.get $b)))

  ;; Traps when $b is zero, and for -2147483648 / -1.
  (func (export "divide") (param $a i32) (param $b i32) (result i32)
    (i32.div_s (local.get $a) (local.get $b)))

  ;; Two results.
  (func (export "swap") (param $a i32) (param $b i64) (result i64 i32)
    (local.get $b) (local.get $a)))
