;; Loops forever in its start function.
(component
  (core module $m (func $start (loop $again (br $again))) (start $start))
  (core instance (instantiate $m)))
