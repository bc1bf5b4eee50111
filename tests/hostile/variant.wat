;; A case that the variant does not have.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32)
      (i32.store8 (i32.const 8) (i32.const 9))
      (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "run") (result (option u32))
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
