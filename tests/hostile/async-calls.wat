;; Begins to wait for an hour, again and again, and waits for none of it.
(component
  (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
    (export "wait-for" (func async (param "how-long" u64)))))
  (core func $wait (canon lower (func $clock "wait-for") async))
  (core module $m
    (import "host" "wait" (func $wait (param i64) (result i32)))
    (func (export "run") (result i32)
      (loop $again (drop (call $wait (i64.const 3600000000000))) (br $again)) unreachable)
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "host" (instance (export "wait" (func $wait))))))
  (type $run (func async))
  (func (export "run") (type $run)
    (canon lift (core func $i "run") async (callback (core func $i "callback")))))
