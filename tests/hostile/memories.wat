;; Five memories of 1 MiB: none is over the limit, all together are.
(component
  (core module $m
    (memory 16)
    (func (export "run")))
  (core instance $a (instantiate $m))
  (core instance $b (instantiate $m))
  (core instance $c (instantiate $m))
  (core instance $d (instantiate $m))
  (core instance $e (instantiate $m))
  (func (export "run") (canon lift (core func $a "run"))))
