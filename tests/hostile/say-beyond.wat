;; Writes a line that goes on behind its memory.
(component
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $level (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $exported (eq $level)))
    (export "log" (func (param "level" $exported) (param "context" string) (param "message" string)))))
  (core module $memory
    (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
  (core module $m
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "run")
      (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 65535) (i32.const 2))))
  (core instance $i (instantiate $m (with "host" (instance (export "log" (func $log))))))
  (func (export "run") (canon lift (core func $i "run"))))
