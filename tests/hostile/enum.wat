;; A case that the enum does not have.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32) (i32.const 7)))
  (core instance $i (instantiate $m))
  (type $local (enum "a" "b"))
  (export $colour "colour" (type $local))
  (func (export "run") (result $colour)
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
