;; Of two components in it one hands the other a text of 1 MiB, again and again; the host checks and copies it each time.
(component
  (component $first
    (core module $m
      (memory (export "memory") 18)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
      (func (export "take") (param i32 i32)))
    (core instance $i (instantiate $m))
    (func (export "take") (param "text" string)
      (canon lift (core func $i "take") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  )
  (instance $first (instantiate $first))
  (component $second
    (import "first" (instance $first (export "take" (func (param "text" string)))))
    (core module $memory (memory (export "memory") 17))
    (core instance $memory (instantiate $memory))
    (core func $take (canon lower (func $first "take") (memory (core memory $memory "memory"))))
    (core module $m
      (import "first" "take" (func $take (param i32 i32)))
      (func (export "run")
        (loop $again (call $take (i32.const 0) (i32.const 1048576)) (br $again))))
    (core instance $i (instantiate $m (with "first" (instance (export "take" (func $take))))))
    (func (export "run") (canon lift (core func $i "run"))))
  (instance $second (instantiate $second (with "first" (instance $first))))
  (export "run" (func $second "run")))
