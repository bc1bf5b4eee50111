;; A list with a list in it that lies behind its memory.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\00\00\01\00\01\00\00\00")
    (func (export "run") (result i32)
      (i32.store (i32.const 8) (i32.const 16)) (i32.store (i32.const 12) (i32.const 1))
      (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "run") (result (list (list u8)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
