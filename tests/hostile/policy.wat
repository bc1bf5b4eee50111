;; A routing policy in the canonical ABI that does nothing, with places where a test puts what it does wrong. It answers
;; `link-up` with a line "up" in the log, so that a test sees which facts it was told, and every question with `local`.
;;
;; Fixed places in memory: 16 an empty list, 32 an empty state, 64 the list of the one log effect at 256, 80 the list
;; of the effects at 1024 that a test writes, 128 a plan that is valid for a minute.
(module
  (memory (export "memory") 4)
  (data (i32.const 64) "\00\01\00\00\01\00\00\00")
  (data (i32.const 80) "\00\04\00\00\01\00\00\00")
  (data (i32.const 144) "\60\ea\00\00")
  (data (i32.const 264) "\03\00\00\00\00\00\00\00\02\00\00\00\00\02\00\00\02\00\00\00")
  (data (i32.const 512) "up")
  (global $heap (mut i32) (i32.const 131072))
  (global $asked (mut i32) (i32.const 0))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    ;; What the host wrote for earlier calls is not needed any more.
    (if (i32.gt_u (i32.add (global.get $heap) (local.get 3)) (i32.const 250000))
      (then (global.set $heap (i32.const 131072))))
    (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get 3))))
  (table $table 1 funcref)
  (func $spin (loop $again (br $again)))
  (func $deep (param i64) (result i64)
    (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
  (func (export "midplane:routing/machine@0.1.0#init") (param $setup i32) (result i32)
    (;INIT;)
    (i32.const 32))
  (func (export "midplane:routing/machine@0.1.0#handle")
    (param $now i64) (param $event i32) (param $base i32)
    (param i64 i32 i32 i64 i64 i32 i32 i32 i32 i32 i32) (result i32)
    (if (i32.eqz (local.get $event)) (then
      (if (i32.eqz (local.get $base)) (then
        (;TIMER;)
        nop))
      (if (i32.eq (local.get $base) (i32.const 1)) (then (return (i32.const 64))))
      (if (i32.eq (local.get $base) (i32.const 4)) (then
        (;MESSAGE;)
        nop))))
    (i32.const 16))
  (func (export "midplane:routing/machine@0.1.0#decide")
    (param i64 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
    (;DECIDE;)
    (i32.const 128))
  (func (export "midplane:routing/machine@0.1.0#save") (result i32)
    (;SAVE;)
    (i32.const 32)))
