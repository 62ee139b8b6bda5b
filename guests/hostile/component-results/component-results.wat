;; Returns lists: 16 MiB of bytes; two million empty strings; 4096 strings that are all the same mebibyte.
(component
  (type $bytes (list u8))
  (type $strings (list string))
  (core module $m
    (memory (export "memory") 512)
    (func $list (param $count i32) (result i32)
      (i32.store (i32.const 0) (i32.const 8))
      (i32.store (i32.const 4) (local.get $count))
      (i32.const 0))
    (func (export "bytes") (result i32) (call $list (i32.const 0x1000000)))
    (func (export "empties") (result i32) (call $list (i32.const 0x200000)))
    (func (export "repeated") (result i32) (local $n i32)
      (memory.fill (i32.const 0x100000) (i32.const 0x61) (i32.const 0x100000))
      (loop $fill
        (i32.store offset=8 (i32.mul (local.get $n) (i32.const 8)) (i32.const 0x100000))
        (i32.store offset=12 (i32.mul (local.get $n) (i32.const 8)) (i32.const 0x100000))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $n) (i32.const 4096))))
      (call $list (i32.const 4096))))
  (core instance $m (instantiate $m))
  (func (export "bytes") (result $bytes) (canon lift (core func $m "bytes") (memory (core memory $m "memory"))))
  (func (export "empties") (result $strings) (canon lift (core func $m "empties") (memory (core memory $m "memory"))))
  (func (export "repeated") (result $strings) (canon lift (core func $m "repeated") (memory (core memory $m "memory")))))
