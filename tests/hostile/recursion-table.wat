;; Two functions call each other through a table without end.
(component
  (core module $m
    (type $f (func (param i64) (result i64)))
    (table 2 funcref)
    (elem (i32.const 0) $even $odd)
    (func $even (type $f)
      (i64.add (call_indirect (type $f) (local.get 0) (i32.const 1)) (local.get 0)))
    (func $odd (type $f)
      (i64.sub (call_indirect (type $f) (local.get 0) (i32.const 0)) (local.get 0)))
    (func (export "run") (drop (call $even (i64.const 1)))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
