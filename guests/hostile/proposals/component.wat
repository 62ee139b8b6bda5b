;; component: a component instead of a core module.
(component
  (core module $m (func (export "f")))
  (core instance (instantiate $m)))
