;; Two core instances grow, one after the other: neither is over the limit, both are.
(component
  (core module $first
    (memory 1)
    (func (export "grow") (drop (memory.grow (i32.const 40)))))
  (core instance $first (instantiate $first))
  (core module $m
    (import "first" "grow" (func $grow))
    (memory 1)
    (func (export "run") (call $grow) (drop (memory.grow (i32.const 40)))))
  (core instance $i (instantiate $m (with "first" (instance $first))))
  (func (export "run") (canon lift (core func $i "run"))))
