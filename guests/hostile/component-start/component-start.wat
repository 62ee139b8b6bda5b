;; Traps before anything of it is called.
(component
  (core module $m (func $start unreachable) (start $start))
  (core instance (instantiate $m)))
