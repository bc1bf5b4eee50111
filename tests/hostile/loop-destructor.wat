;; Never returns from the destructor of what it lets go of.
(component
  (core module $d
    (func (export "destroy") (param i32) (loop $again (br $again))))
  (core instance $d (instantiate $d))
  (type $r (resource (rep i32) (dtor (core func $d "destroy"))))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "own" "new" (func $new (param i32) (result i32)))
    (import "own" "drop" (func $drop (param i32)))
    (func (export "run") (call $drop (call $new (i32.const 1)))))
  (core instance $i (instantiate $m
    (with "own" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "run") (canon lift (core func $i "run"))))
