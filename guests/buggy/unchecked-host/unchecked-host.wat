;; Asks its host for a price, and treats an error as a price.
(component
  (import "get" (func $get (param "x" u32) (result (result u32 (error u32)))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $get (canon lower (func $get) (memory (core memory $memory "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "get" (func $get (param i32 i32)))
    (func (export "price") (param $x i32) (result i32)
      (call $get (local.get $x) (i32.const 16))
      ;; The word at 16 is 1 for an error: then the next word is not a price, and this is not an address.
      (i32.load (i32.mul (i32.load8_u (i32.const 16)) (i32.const 0x7fffffff)))))
  (core instance $m (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "get" (func $get))))))
  (func (export "price") (param "x" u32) (result u32) (canon lift (core func $m "price"))))
