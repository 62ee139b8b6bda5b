;; Asks its host for the time twice, and assumes that time does not go backwards.
(component
  (import "now" (func $now (result u64)))
  (core func $now (canon lower (func $now)))
  (core module $m
    (import "" "now" (func $now (result i64)))
    (func (export "elapsed") (param $scale i32) (result i64) (local $began i64) (local $ended i64)
      (local.set $began (call $now))
      (local.set $ended (call $now))
      ;; A negative time is used as an unsigned one, which is too large.
      (if (i64.lt_u (local.get $ended) (local.get $began)) (then unreachable))
      (i64.mul (i64.sub (local.get $ended) (local.get $began)) (i64.extend_i32_u (local.get $scale)))))
  (core instance $m (instantiate $m (with "" (instance (export "now" (func $now))))))
  (func (export "elapsed") (param "scale" u32) (result u64) (canon lift (core func $m "elapsed"))))
