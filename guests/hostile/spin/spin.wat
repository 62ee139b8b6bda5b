;; spin: never ends, and never calls the host.
(module
  (func $spin (export "spin")
    (loop $again (br $again)))
  (export "_start" (func $spin)))
