;; Copies its memory to and fro: one instruction for each 1.5 MiB.
(component
  (core module $m
    (memory (export "memory") 48)
    (func (export "run")
      (loop $again (memory.copy (i32.const 0) (i32.const 1572864) (i32.const 1572864)) (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
