//! How each harm that a policy can do ends. What it does is put into a place of `tests/hostile/policy.wat`; see there for the addresses.

use midplane::words::Code;

/// A harm.
#[derive(Clone, Copy, Debug)]
pub struct Harm {
    /// What it is called.
    pub name: &'static str,
    /// What it does.
    pub act: &'static str,
    /// With which code the instance ends.
    pub code: Code,
    /// What the fault says.
    pub says: &'static str,
}

const fn harm(name: &'static str, act: &'static str, code: Code, says: &'static str) -> Harm {
    Harm { name, act, code, says }
}

/// Effects that are lines for the log: four thousand of 32 KB that are all the same bytes.
const LINES: &str = "(i32.store (i32.const 96) (i32.const 1024)) (i32.store (i32.const 100) (i32.const 4000))
    (loop $next
      (i32.store (i32.add (i32.const 1032) (i32.mul (local.get 9) (i32.const 48))) (i32.const 3))
      (i32.store (i32.add (i32.const 1044) (i32.mul (local.get 9) (i32.const 48))) (i32.const 65536))
      (i32.store (i32.add (i32.const 1048) (i32.mul (local.get 9) (i32.const 48))) (i32.const 32639))
      (local.set 9 (i32.add (local.get 9) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get 9) (i32.const 4000))))
    (return (i32.const 96))";

/// While it handles an event.
pub const HANDLING: &[Harm] = &[
    harm("recursion", "(drop (call $deep (i64.const 0)))", Code::StackOverflow, "the stack of 512 KiB"),
    harm(
        "table",
        "(drop (table.grow $table (ref.null func) (i32.const 100000)))",
        Code::MemoryLimit,
        "10000 table elements",
    ),
    harm(
        "asking for nothing",
        "(loop $g (drop (memory.grow (i32.const 0))) (br $g))",
        Code::OutOfFuel,
        "the fuel",
    ),
    harm(
        "filling",
        "(loop $g (memory.fill (i32.const 131072) (i32.const 0) (i32.const 100000)) (br $g))",
        Code::OutOfFuel,
        "the fuel",
    ),
    harm(
        "copying",
        "(loop $g (memory.copy (i32.const 131072) (i32.const 140000) (i32.const 100000)) (br $g))",
        Code::OutOfFuel,
        "the fuel",
    ),
    harm(
        "filling a table",
        "(drop (table.grow $table (ref.null func) (i32.const 9000)))
         (loop $g (table.fill $table (i32.const 0) (ref.null func) (i32.const 9000)) (br $g))",
        Code::OutOfFuel,
        "the fuel",
    ),
    harm(
        "effects without end",
        "(i32.store (i32.const 96) (i32.const 1024)) (i32.store (i32.const 100) (i32.const -1)) (return (i32.const 96))",
        Code::Trap,
        "out of bounds",
    ),
    harm(
        "effect that there is not",
        "(i32.store (i32.const 1024) (i32.const 7)) (return (i32.const 80))",
        Code::Trap,
        "discriminant",
    ),
    harm("lines without end", LINES, Code::Trap, "fuel"),
];

/// While it answers a question.
pub const ANSWERING: &[Harm] = &[
    harm("question: trap", "unreachable", Code::Trap, "unreachable"),
    harm("question: loop", "(call $spin)", Code::OutOfFuel, "the fuel"),
    harm(
        "question: recursion",
        "(drop (call $deep (i64.const 0)))",
        Code::StackOverflow,
        "the stack of 512 KiB",
    ),
    harm("question: memory", "(drop (memory.grow (i32.const 60000)))", Code::MemoryLimit, "limits.memory"),
    harm("plan behind the memory", "(return (i32.const 262136))", Code::Trap, "out of bounds"),
    harm("odd plan", "(return (i32.const 129))", Code::Trap, "aligned"),
    harm(
        "choice that there is not",
        "(i32.store8 (i32.const 128) (i32.const 9))",
        Code::Trap,
        "discriminant",
    ),
    harm("scope that there is not", "(i32.store8 (i32.const 152) (i32.const 9))", Code::Trap, "discriminant"),
    harm(
        "hops without end",
        "(i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 136) (i32.const -1))",
        Code::Trap,
        "out of bounds",
    ),
];

/// While it saves its state.
pub const SAVING: &[Harm] = &[
    harm("save: trap", "unreachable", Code::Trap, "unreachable"),
    harm("save: loop", "(call $spin)", Code::OutOfFuel, "the fuel"),
    harm("save: recursion", "(drop (call $deep (i64.const 0)))", Code::StackOverflow, "the stack of 512 KiB"),
    harm("save: memory", "(drop (memory.grow (i32.const 60000)))", Code::MemoryLimit, "limits.memory"),
    harm("state behind the memory", "(i32.store (i32.const 44) (i32.const -1))", Code::Trap, "out of bounds"),
    harm(
        "version that is no text",
        "(i32.store (i32.const 32) (i32.const 145)) (i32.store (i32.const 36) (i32.const 1))",
        Code::Trap,
        "utf-8",
    ),
    harm(
        "long version",
        "(i32.store (i32.const 32) (i32.const 65536)) (i32.store (i32.const 36) (i32.const 257))",
        Code::TooLarge,
        "a version of 257 bytes; the limit is 256",
    ),
    harm(
        "large state",
        "(drop (memory.grow (i32.const 300))) (i32.store (i32.const 44) (i32.const 16777217))",
        Code::TooLarge,
        "saves 16777217 bytes; the limit is 16777216",
    ),
];

/// While it starts with a state from before.
pub const TAKING_OVER: &[Harm] = &[
    harm("state: trap", "unreachable", Code::Trap, "unreachable"),
    harm("state: loop", "(call $spin)", Code::OutOfFuel, "the fuel"),
    harm(
        "state: recursion",
        "(drop (call $deep (i64.const 0)))",
        Code::StackOverflow,
        "the stack of 512 KiB",
    ),
    harm("state: memory", "(drop (memory.grow (i32.const 60000)))", Code::MemoryLimit, "limits.memory"),
    harm("state: outcome", "(i32.store8 (i32.const 32) (i32.const 2))", Code::Trap, "discriminant"),
    harm(
        "state: effects",
        "(i32.store (i32.const 36) (i32.const 8)) (i32.store (i32.const 40) (i32.const -1))",
        Code::Trap,
        "out of bounds",
    ),
    harm(
        "state: refusal",
        "(i32.store (i32.const 160) (i32.const 0x0a5b1b61)) (i32.store8 (i32.const 32) (i32.const 1))
         (i32.store (i32.const 36) (i32.const 160)) (i32.store (i32.const 40) (i32.const 4))",
        Code::InitFailed,
        "refused to start: a\u{FFFD}[",
    ),
];

/// Components that no engine of policies starts, as files of `tests/hostile`: what is in a pool's place bounds them as well.
pub const SHAPES: &[Harm] = &[
    harm("instances", "instances-many", Code::Trap, "instance count"),
    harm("memories", "memories-many", Code::Trap, "memory count"),
    harm("tables", "tables-many", Code::Trap, "table count"),
    harm("tables together", "tables", Code::MemoryLimit, "10000 table elements"),
    harm("composed", "loop-texts", Code::WrongWorld, "composed of several"),
    harm("composed in silence", "loop-inner", Code::WrongWorld, "composed of several"),
];
