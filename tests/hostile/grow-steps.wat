;; Asks for one page after the other.
(component
  (core module $m
    (memory (export "memory") 1)
    (func $run (export "run")
      (loop $again (drop (memory.grow (i32.const 1))) (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
