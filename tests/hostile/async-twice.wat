;; Answers twice.
(component
  (core func $return (canon task.return (result u32)))
  (core module $m
    (import "own" "return" (func $return (param i32)))
    (func (export "run") (result i32) (call $return (i32.const 1)) (call $return (i32.const 2)) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m
    (with "own" (instance (export "return" (func $return))))))
  (type $run (func async (result u32)))
  (func (export "run") (type $run)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
