;; Fills most of its memory again and again: one instruction for each 3 MiB.
(component
  (core module $m
    (memory (export "memory") 48)
    (func (export "run")
      (loop $again (memory.fill (i32.const 0) (i32.const 7) (i32.const 3145728)) (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
