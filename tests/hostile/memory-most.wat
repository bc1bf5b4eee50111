;; Has 4 GiB from the start.
(component
  (core module $m
    (memory (export "memory") 65536)
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
