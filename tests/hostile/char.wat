;; Half of a surrogate pair.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32) (i32.const 55296)))
  (core instance $i (instantiate $m))
  (func (export "run") (result char)
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
