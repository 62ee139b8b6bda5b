;; memory-initial: requires 4 GiB before it runs a single instruction.
(module
  (memory (export "memory") 65536)
  (func (export "_start")))
