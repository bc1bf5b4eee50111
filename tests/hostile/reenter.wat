;; Calls a component inside of itself, which calls back.
(component
  (core module $back (func (export "back")))
  (core instance $back (instantiate $back))
  (func $back (canon lift (core func $back "back")))
  (component $inner
    (import "back" (func $back))
    (core func $back (canon lower (func $back)))
    (core module $m
      (import "outer" "back" (func $back))
      (func (export "forth") (call $back)))
    (core instance $i (instantiate $m (with "outer" (instance (export "back" (func $back))))))
    (func (export "forth") (canon lift (core func $i "forth"))))
  (instance $inner (instantiate $inner (with "back" (func $back))))
  (core func $forth (canon lower (func $inner "forth")))
  (core module $m
    (import "inner" "forth" (func $forth))
    (func (export "run") (call $forth)))
  (core instance $i (instantiate $m (with "inner" (instance (export "forth" (func $forth))))))
  (func (export "run") (canon lift (core func $i "run"))))
