;; component: not a core module at all, but a component.
(component
  (core module $m (func (export "f")))
  (core instance (instantiate $m)))
