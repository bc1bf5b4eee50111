;; Wants a memory with addresses of 64 bits.
(component
  (core module $m
    (memory i64 1)
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
