;; exceptions-import: an imported tag.
(module
  (import "env" "oops" (tag (param i32)))
  (func (export "_start")))
