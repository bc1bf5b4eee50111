;; Calls through a table without end.
(component
  (core module $m
    (table 1 funcref)
    (elem (i32.const 0) $nothing)
    (func $nothing)
    (func (export "run") (loop $again (call_indirect (i32.const 0)) (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
