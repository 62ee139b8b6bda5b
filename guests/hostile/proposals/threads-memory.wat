;; threads-memory: a shared memory, of the threads proposal.
(module
  (memory (export "memory") 1 1 shared)
  (func (export "_start")))
