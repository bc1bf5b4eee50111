;; Asks for 64 MiB at once.
(component
  (core module $m
    (memory (export "memory") 1)
    (func $run (export "run")
      (drop (memory.grow (i32.const 1024)))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
