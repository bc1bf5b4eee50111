;; Calls the host when the host gives the answer back.
(component
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $level (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $exported (eq $level)))
    (export "log" (func (param "level" $exported) (param "context" string) (param "message" string)))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
  (core module $m
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "run") (result i32) (i32.const 8))
    (func (export "post") (param i32)
      (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))))
  (core instance $i (instantiate $m (with "host" (instance (export "log" (func $log))))))
  (func (export "run") (result string)
    (canon lift (core func $i "run")
      (memory (core memory $memory "memory")) (post-return (core func $i "post")))))
