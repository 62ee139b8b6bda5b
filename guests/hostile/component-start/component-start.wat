;; Traps in its start function, before any export is called.
(component
  (core module $m (func $start unreachable) (start $start))
  (core instance (instantiate $m)))
