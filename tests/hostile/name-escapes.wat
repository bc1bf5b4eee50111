;; Imports into a core module what nobody gives it, under a name that would clear a terminal.
(component
  (core module $m
    (import "\1b[2J\0aERROR host: all is lost" "x" (func))
    (func (export "run")))
  (core instance $i (instantiate $m))
  (func (export "run") (canon lift (core func $i "run"))))
