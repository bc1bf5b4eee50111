;; Has a million table elements from the start.
(component
  (core module $m
    (memory (export "memory") 1)
    (table $t 1000000 funcref)
    (func $run (export "run")
      nop))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
