;; Fills its memory and one byte more.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (memory.fill (i32.const 1) (i32.const 0) (i32.const 65536))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
