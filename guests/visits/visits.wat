;; visits: counts visits by name in the bucket "visits" of wasi:keyvalue. Each call opens the bucket and adds 1 to a key.
(component
  (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
    (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $error')))
    (export "bucket" (type $bucket (sub resource)))
    (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))))
  (alias export $store "bucket" (type $bucket))
  (alias export $store "error" (type $error))
  (import "wasi:keyvalue/atomics@0.2.0-draft2" (instance $atomics
    (alias outer 1 $bucket (type $bucket')) (export "bucket" (type $bucket (eq $bucket')))
    (alias outer 1 $error (type $error')) (export "error" (type $error (eq $error')))
    (export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" s64)
      (result (result s64 (error $error)))))))

  ;; The name of the bucket at 0, answers of the host at 16 and 48, and text that the host passes from 1024 on.
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "visits")
    (global $next (mut i32) (i32.const 1024))
    (func (export "reset") (param i32) (global.set $next (i32.const 1024)))
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $new i32)
      (local.set $new (global.get $next))
      (global.set $next (i32.add (local.get $new) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.const 65536)) (then unreachable))
      (local.get $new)))
  (core instance $memory (instantiate $memory))
  (core func $open (canon lower (func $store "open")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $increment (canon lower (func $atomics "increment")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $drop (canon resource.drop $bucket))

  (core module $code
    (import "memory" "memory" (memory 1))
    (import "host" "open" (func $open (param i32 i32 i32)))
    (import "host" "increment" (func $increment (param i32 i32 i32 i64 i32)))
    (import "host" "drop" (func $drop (param i32)))
    ;; A result has its tag at byte 0: 0 is ok. The bucket follows at byte 4, the sum at byte 8.
    (func (export "visit") (param $name i32) (param $size i32) (result i32)
      (call $open (i32.const 0) (i32.const 6) (i32.const 16))
      (i32.store8 (i32.const 48) (i32.const 1))
      (if (i32.eqz (i32.load8_u (i32.const 16)))
        (then
          (call $increment (i32.load (i32.const 20)) (local.get $name) (local.get $size) (i64.const 1) (i32.const 48))
          (call $drop (i32.load (i32.const 20)))))
      (i32.const 48)))
  (core instance $code (instantiate $code
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "open" (func $open)) (export "increment" (func $increment)) (export "drop" (func $drop))))))
  (func (export "visit") (param "name" string) (result (result s64))
    (canon lift (core func $code "visit") (memory (core memory $memory "memory"))
      (realloc (core func $memory "realloc")) (post-return (core func $memory "reset")))))
