;; Wants structures that the host collects.
(component
  (core module $m
    (type $s (struct (field i32)))
    (func (result (ref null $s)) (struct.new $s (i32.const 1)))
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
