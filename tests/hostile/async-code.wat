;; Says what there is no code for.
(component
  (core module $m
    (func (export "run") (result i32) (i32.const 15))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m))
  (type $run (func async))
  (func (export "run") (type $run)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
