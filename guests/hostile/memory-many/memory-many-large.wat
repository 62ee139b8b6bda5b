;; memory-many-large: eight memories of 16 MiB, 128 MiB in all.
(module
  (memory 256) (memory 256) (memory 256) (memory 256) (memory 256) (memory 256) (memory 256) (memory 256)
  (func (export "_start")))
