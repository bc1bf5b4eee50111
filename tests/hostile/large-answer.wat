;; Lists of any length, out of a memory of 48 MiB.
(component
  (core module $m
    (memory (export "memory") 768)
    (func (export "list") (param i32) (result i32)
      (i32.store (i32.const 0) (i32.const 0))
      (i32.store (i32.const 4) (local.get 0))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (type $local (enum "the-one-and-only-case-with-a-name-that-is-not-short-at-all"))
  (export $case "the-case" (type $local))
  (func (export "octets") (param "n" u32) (result (list u8))
    (canon lift (core func $i "list") (memory (core memory $i "memory"))))
  (func (export "text") (param "n" u32) (result string)
    (canon lift (core func $i "list") (memory (core memory $i "memory"))))
  (func (export "cases") (param "n" u32) (result (list $case))
    (canon lift (core func $i "list") (memory (core memory $i "memory")))))
