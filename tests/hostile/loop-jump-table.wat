;; Jumps through a table without end.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (local $n i32)
      (loop $again
        (block $a (block $b (block $c (block $d
          (br_table $a $b $c $d (i32.and (local.get $n) (i32.const 3))))
          (local.set $n (i32.add (local.get $n) (i32.const 3))) (br $again))
          (local.set $n (i32.add (local.get $n) (i32.const 5))) (br $again))
          (local.set $n (i32.add (local.get $n) (i32.const 7))) (br $again))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
