;; Does what a panic compiles to.
(component
  (core module $m
    (memory (export "memory") 1)
    (func $run (export "run")
      unreachable))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
