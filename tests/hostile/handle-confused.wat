;; Lets go of a resource of one type as if it was of another.
(component
  (type $r (resource (rep i32)))
  (type $s (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $s))
  (core module $m
    (import "own" "new" (func $new (param i32) (result i32)))
    (import "own" "drop" (func $drop (param i32)))
    (func (export "run") (call $drop (call $new (i32.const 1)))))
  (core instance $i (instantiate $m
    (with "own" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "run") (canon lift (core func $i "run"))))
