;; Two core instances with tables of six thousand elements: neither is over the limit, both are.
(component
  (core module $m
    (table 6000 funcref)
    (func (export "run")))
  (core instance $i (instantiate $m))
  (core instance (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
