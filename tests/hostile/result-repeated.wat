;; A list of four thousand texts of 64 KiB that are all the same bytes: 256 MiB out of 96 KiB.
(component
  (core module $m
    (memory (export "memory") 2)
    (func (export "run") (result i32) (local $n i32)
      (loop $next
        (i32.store (i32.add (i32.const 65536) (i32.shl (local.get $n) (i32.const 3))) (i32.const 0))
        (i32.store (i32.add (i32.const 65540) (i32.shl (local.get $n) (i32.const 3))) (i32.const 65536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $n) (i32.const 4000))))
      (i32.store (i32.const 131064) (i32.const 65536)) (i32.store (i32.const 131068) (i32.const 4000))
      (i32.const 131064)))
  (core instance $i (instantiate $m))
  (func (export "run") (result (list string))
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
