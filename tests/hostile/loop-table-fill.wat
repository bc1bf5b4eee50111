;; Fills a table of ten thousand again and again.
(component
  (core module $m
    (table $t 9999 funcref)
    (func (export "run")
      (loop $again (table.fill $t (i32.const 0) (ref.null func) (i32.const 9999)) (br $again))))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
