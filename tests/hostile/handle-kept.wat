;; A component keeps what another one has only lent it.
(component
  (component $first
    (type $own (resource (rep i32)))
    (export $r "r" (type $own))
    (core func $new (canon resource.new $own))
    (core func $drop (canon resource.drop $own))
    (core module $m
      (import "own" "new" (func $new (param i32) (result i32)))
      (func (export "make") (result i32) (call $new (i32.const 1))))
    (core instance $i (instantiate $m (with "own" (instance (export "new" (func $new))))))
    (func (export "make") (result (own $r)) (canon lift (core func $i "make"))))
  (instance $first (instantiate $first))
  (alias export $first "r" (type $r))
  (component $taker
    (import "r" (type $r (sub resource)))
    (core func $drop (canon resource.drop $r))
    (core module $m
      (import "own" "drop" (func $drop (param i32)))
      (func (export "take") (param i32)))
    (core instance $i (instantiate $m (with "own" (instance (export "drop" (func $drop))))))
    (func (export "take") (param "r" (borrow $r)) (canon lift (core func $i "take"))))
  (instance $taker (instantiate $taker (with "r" (type $r))))
  (component $second
    (import "r" (type $r (sub resource)))
    (import "make" (func $make (result (own $r))))
    (import "take" (func $take (param "r" (borrow $r))))
    (core func $make (canon lower (func $make)))
    (core func $take (canon lower (func $take)))
    (core func $drop (canon resource.drop $r))
    (core module $m
      (import "own" "make" (func $make (result i32)))
      (import "own" "take" (func $take (param i32)))
      (import "own" "drop" (func $drop (param i32)))
      (func (export "run") (call $take (call $make))))
    (core instance $i (instantiate $m (with "own" (instance
      (export "make" (func $make)) (export "take" (func $take)) (export "drop" (func $drop))))))
    (func (export "run") (canon lift (core func $i "run"))))
  (instance $second (instantiate $second
    (with "r" (type $r)) (with "make" (func $first "make")) (with "take" (func $taker "take"))))
  (export "run" (func $second "run")))
