;; Divides, and throws an exception for a zero divisor: needs the proposal "exceptions".
(module
  (tag $zero (export "division-by-zero"))
  (func $divide (export "divide") (param $a i32) (param $b i32) (result i32)
    (if (i32.eqz (local.get $b)) (then (throw $zero)))
    (i32.div_s (local.get $a) (local.get $b)))
  (func (export "safe-divide") (param $a i32) (param $b i32) (result i32)
    (block $handler
      (try_table (catch $zero $handler)
        (return (call $divide (local.get $a) (local.get $b)))))
    (i32.const -1)))
