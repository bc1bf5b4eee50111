;; Neither good nor bad.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32)
      (i32.store8 (i32.const 8) (i32.const 2))
      (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "run") (result (result u32 (error u32)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
