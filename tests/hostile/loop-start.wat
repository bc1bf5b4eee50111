;; Never gets as far as being an instance.
(component
  (core module $m
    (func $start (loop $again (br $again)))
    (start $start)
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
