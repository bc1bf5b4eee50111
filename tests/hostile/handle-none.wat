;; Uses the one number that is no handle.
(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core func $rep (canon resource.rep $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "own" "new" (func $new (param i32) (result i32)))
    (import "own" "rep" (func $rep (param i32) (result i32)))
    (import "own" "drop" (func $drop (param i32)))
    (func (export "run")
      (call $drop (i32.const 0))))
  (core instance $i (instantiate $m
    (with "own" (instance (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
  (func (export "run") (canon lift (core func $i "run"))))
