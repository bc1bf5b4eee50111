;; Makes an integer of what is too large for one.
(component
  (core module $m
    (func (export "run") (drop (i32.trunc_f64_s (f64.const 1e300)))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
