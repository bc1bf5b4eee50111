;; Of two components in it one calls the other, which never returns.
(component
  (component $first
    (core module $m (func (export "spin") (loop $again (br $again))))
    (core instance $i (instantiate $m))
    (func (export "spin") (canon lift (core func $i "spin")))
  )
  (instance $first (instantiate $first))
  (component $second
    (import "first" (instance $first (export "spin" (func))))
    (core func $spin (canon lower (func $first "spin")))
    (core module $m
      (import "first" "spin" (func $spin))
      (func (export "run") (call $spin)))
    (core instance $i (instantiate $m (with "first" (instance (export "spin" (func $spin))))))
    (func (export "run") (canon lift (core func $i "run"))))
  (instance $second (instantiate $second (with "first" (instance $first))))
  (export "run" (func $second "run")))
