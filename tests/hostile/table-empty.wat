;; Calls what is in no place of its table.
(component
  (core module $m
    (table 1 funcref)
    (func (export "run") (call_indirect (i32.const 0))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
