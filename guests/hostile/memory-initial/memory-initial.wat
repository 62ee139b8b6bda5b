;; memory-initial: asks for 4 GiB before it has run a single instruction.
(module
  (memory (export "memory") 65536)
  (func (export "_start")))
