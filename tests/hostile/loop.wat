;; Never returns.
(component
  (core module $m
    (memory (export "memory") 1)
    (func $run (export "run")
      (loop $again (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
