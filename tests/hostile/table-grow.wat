;; Asks for a million table elements.
(component
  (core module $m
    (memory (export "memory") 1)
    (table $t 1 funcref)
    (func $run (export "run")
      (drop (table.grow $t (ref.null func) (i32.const 1000000)))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
