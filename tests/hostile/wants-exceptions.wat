;; Wants to throw.
(component
  (core module $m
    (tag $t)
    (func (throw $t))
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
