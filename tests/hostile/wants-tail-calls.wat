;; Wants to call without coming back.
(component
  (core module $m
    (func $f (return_call $f))
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
