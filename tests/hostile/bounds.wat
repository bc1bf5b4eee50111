;; Reads the first byte behind its memory.
(component
  (core module $m
    (memory (export "memory") 1)
    (func $run (export "run")
      (drop (i32.load8_u (i32.const 65536)))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
