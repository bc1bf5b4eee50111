;; Calls the host when the host asks for room for an argument.
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
    (import "memory" "memory" (memory 1))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))
      (i32.const 16))
    (func (export "run") (param i32 i32)))
  (core instance $i (instantiate $m
    (with "host" (instance (export "log" (func $log)))) (with "memory" (instance $memory))))
  (func (export "run") (param "x" string)
    (canon lift (core func $i "run") (memory (core memory $memory "memory")) (realloc (core func $i "realloc")))))
