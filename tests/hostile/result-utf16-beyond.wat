;; A text in UTF-16 whose bytes, not whose units, go on behind its memory.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32)
      (i32.store (i32.const 8) (i32.const 65534)) (i32.store (i32.const 12) (i32.const 2))
      (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "run") (result string)
    (canon lift (core func $i "run") (memory (core memory $i "memory")) string-encoding=utf16)))
