;; Has 64 MiB from the start.
(component
  (core module $m
    (memory (export "memory") 1024)
    (func $run (export "run")
      nop))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
