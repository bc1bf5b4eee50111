;; Two core instances call each other without end.
(component
  (core module $table (table (export "table") 1 funcref))
  (core instance $table (instantiate $table))
  (core module $first
    (import "table" "table" (table 1 funcref))
    (func (export "first") (param i64) (result i64)
      (i64.add (call_indirect (param i64) (result i64) (local.get 0) (i32.const 0)) (local.get 0))))
  (core instance $first (instantiate $first (with "table" (instance $table))))
  (core module $m
    (import "table" "table" (table 1 funcref))
    (import "first" "first" (func $first (param i64) (result i64)))
    (elem (i32.const 0) $second)
    (func $second (param i64) (result i64)
      (i64.add (call $first (local.get 0)) (local.get 0)))
    (func (export "run") (drop (call $second (i64.const 1)))))
  (core instance $i (instantiate $m (with "table" (instance $table)) (with "first" (instance $first))))
  (func (export "run") (canon lift (core func $i "run"))))
