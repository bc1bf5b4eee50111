;; Two core instances ask for nine thousand table elements each.
(component
  (core module $first
    (table $t 1 funcref)
    (func (export "grow") (drop (table.grow $t (ref.null func) (i32.const 9000)))))
  (core instance $first (instantiate $first))
  (core module $m
    (import "first" "grow" (func $grow))
    (table $t 1 funcref)
    (func (export "run") (call $grow) (drop (table.grow $t (ref.null func) (i32.const 9000)))))
  (core instance $i (instantiate $m (with "first" (instance $first))))
  (func (export "run") (canon lift (core func $i "run"))))
