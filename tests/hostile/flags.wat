;; Bits that the flags do not have; they are dropped.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (result i32) (i32.const 255)))
  (core instance $i (instantiate $m))
  (type $local (flags "a" "b"))
  (export $rights "rights" (type $local))
  (func (export "run") (result $rights)
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
