;; Calls the host function `again`, which may call `go` again.
(component
  (import "again" (func $again))
  (core func $again (canon lower (func $again)))
  (core module $m
    (import "" "again" (func $again))
    (func (export "go") (call $again)))
  (core instance $m (instantiate $m (with "" (instance (export "again" (func $again))))))
  (func (export "go") (canon lift (core func $m "go"))))
