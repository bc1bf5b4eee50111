;; Asks for no more memory, again and again: each time the host answers.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run")
      (loop $again (drop (memory.grow (i32.const 0))) (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
