;; Puts data behind its memory while it is made.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 65535) "ab")
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
