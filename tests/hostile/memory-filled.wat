;; Takes all the memory that it may have, touches every page of it, and goes on doing so.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (local $at i32)
      (drop (memory.grow (i32.const 63)))
      (loop $again
        (i32.store (local.get $at) (i32.const -1))
        (local.set $at (i32.and (i32.add (local.get $at) (i32.const 4096)) (i32.const 4190208)))
        (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
