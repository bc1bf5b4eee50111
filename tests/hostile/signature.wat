;; Calls a function through a table as what it is not.
(component
  (core module $m
    (memory (export "memory") 1)
    (table 1 funcref)
    (elem (i32.const 0) $run)
    (func $run (export "run")
      (drop (call_indirect (result i64) (i32.const 0)))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
