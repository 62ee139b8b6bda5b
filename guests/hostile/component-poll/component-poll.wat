;; Polls a list that repeats one timer, as often as the argument says; or creates timers without end.
(component
  (type $poll (instance
    (export "pollable" (type $p (sub resource)))
    (type $many (list (borrow $p)))
    (type $ready (list u32))
    (export "poll" (func (param "in" $many) (result $ready)))))
  (import "wasi:io/poll@0.2.3" (instance $poll (type $poll)))
  (alias export $poll "pollable" (type $pollable))
  (type $clock (instance
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $p (eq $outer)))
    (type $own (own $p))
    (export "subscribe-duration" (func (param "when" u64) (result $own)))))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock (type $clock)))
  (core func $timer (canon lower (func $clock "subscribe-duration")))
  (core module $memory
    (memory (export "memory") 80)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $memory (instantiate $memory))
  (core func $poll (canon lower (func $poll "poll")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $m
    (import "" "memory" (memory 80))
    (import "" "poll" (func $poll (param i32 i32 i32)))
    (import "" "timer" (func $timer (param i64) (result i32)))
    (func (export "poll") (param $count i32) (result i32) (local $timer i32) (local $n i32)
      (local.set $timer (call $timer (i64.const 0)))
      (loop $fill
        (i32.store offset=64 (i32.mul (local.get $n) (i32.const 4)) (local.get $timer))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $fill (i32.lt_u (local.get $n) (local.get $count))))
      (call $poll (i32.const 64) (local.get $count) (i32.const 16))
      (i32.load (i32.const 20)))
    (func (export "flood") (loop $again (drop (call $timer (i64.const 0))) (br $again))))
  (core instance $m (instantiate $m (with "" (instance
    (export "memory" (memory $memory "memory")) (export "poll" (func $poll)) (export "timer" (func $timer))))))
  (func (export "poll") (param "count" u32) (result u32) (canon lift (core func $m "poll")))
  (func (export "flood") (canon lift (core func $m "flood"))))
