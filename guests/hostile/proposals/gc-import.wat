;; gc-import: an array type in the signature of an import.
(module
  (type $bytes (array (mut i8)))
  (import "env" "take" (func (param (ref null $bytes))))
  (func (export "_start")))
