;; Writes lines that would clear a terminal, name its window, begin new lines and turn them around; then breaks down.
(component
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $level (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $exported (eq $level)))
    (export "log" (func (param "level" $exported) (param "context" string) (param "message" string)))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "ctx\0a")
    (data (i32.const 16) "\1b[2J\1b]0;title\07\0d\0aERROR host: all is lost\e2\80\ae\e2\80\a8\c2\9b31m"))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
  (core module $m
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "run")
      (call $log (i32.const 4) (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 50))
      unreachable))
  (core instance $i (instantiate $m (with "host" (instance (export "log" (func $log))))))
  (func (export "run") (canon lift (core func $i "run"))))
