;; A bool that is neither 0 nor 1; it is true.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32) (i32.const 2)))
  (core instance $i (instantiate $m))
  (func (export "run") (result bool)
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
