;; A text in UTF-16 at an odd address.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32)
      (i32.store (i32.const 8) (i32.const 17)) (i32.store (i32.const 12) (i32.const 1))
      (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "run") (result string)
    (canon lift (core func $i "run") (memory (core memory $i "memory")) string-encoding=utf16)))
