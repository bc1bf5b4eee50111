;; Lets go of the same end of a stream twice.
(component
  (type $t (stream u8))
  (core func $new (canon stream.new $t))
  (core func $drop (canon stream.drop-readable $t))
  (core module $m
    (import "own" "new" (func $new (result i64)))
    (import "own" "drop" (func $drop (param i32)))
    (func (export "run") (result i32) (local i32)
      (local.set 0 (i32.wrap_i64 (call $new))) (call $drop (local.get 0)) (call $drop (local.get 0)) unreachable)
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m
    (with "own" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (type $run (func async))
  (func (export "run") (type $run)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
