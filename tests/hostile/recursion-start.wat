;; Calls itself without end while it is made.
(component
  (core module $m
    (func $deep (param i64) (result i64)
      (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
    (func $start (drop (call $deep (i64.const 0))))
    (start $start)
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
