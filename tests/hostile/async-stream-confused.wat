;; Lets go of the wrong end of a stream as if it was the other.
(component
  (type $t (stream u8))
  (core func $new (canon stream.new $t))
  (core func $drop (canon stream.drop-readable $t))
  (core module $m
    (import "own" "new" (func $new (result i64)))
    (import "own" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (call $drop (i32.wrap_i64 (i64.shr_u (call $new) (i64.const 32)))) unreachable)
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m
    (with "own" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (type $run (func async))
  (func (export "run") (type $run)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
