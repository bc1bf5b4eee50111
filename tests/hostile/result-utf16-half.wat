;; A text in UTF-16 with half of a surrogate pair.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\00\d8")
    (func (export "run") (result i32)
      (i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 1))
      (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "run") (result string)
    (canon lift (core func $i "run") (memory (core memory $i "memory")) string-encoding=utf16)))
