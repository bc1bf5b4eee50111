;; Lists of lists of lists that are all the same: a billion numbers out of 32 KiB.
(component
  (core module $m
    (memory (export "memory") 2)
    (func $same (param $at i32) (param $to i32) (local $n i32)
      (loop $next
        (i32.store (i32.add (local.get $at) (i32.shl (local.get $n) (i32.const 3))) (local.get $to))
        (i32.store offset=4 (i32.add (local.get $at) (i32.shl (local.get $n) (i32.const 3))) (i32.const 1000))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $n) (i32.const 1000)))))
    (func (export "run") (result i32)
      (call $same (i32.const 8192) (i32.const 0))
      (call $same (i32.const 16384) (i32.const 8192))
      (i32.store (i32.const 65536) (i32.const 16384)) (i32.store (i32.const 65540) (i32.const 1000))
      (i32.const 65536)))
  (core instance $i (instantiate $m))
  (func (export "run") (result (list (list (list u64))))
    (canon lift (core func $i "run") (memory (core memory $i "memory")))))
