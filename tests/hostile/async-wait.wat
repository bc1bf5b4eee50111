;; Waits for something of a set in which nothing is.
(component
  (core func $set (canon waitable-set.new))
  (core module $m
    (import "own" "set" (func $set (result i32)))
    (func (export "run") (result i32) (i32.or (i32.const 2) (i32.shl (call $set) (i32.const 4))))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m
    (with "own" (instance (export "set" (func $set))))))
  (type $run (func async))
  (func (export "run") (type $run)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
