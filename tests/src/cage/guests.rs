//! How each workload of `tests/hostile` ends.

use midplane::words::Code;

use super::Case;

const MEMORY: &str = "limits.memory = 4194304 bytes; it asked for ";

/// Who never ends, whatever it does meanwhile.
pub const PROCESSOR: &[Case] = &[
    Case::late("loop"),
    Case::start("loop-start", Code::Deadline, "the deadline of 5000 ms"),
    Case::late("loop-jump-table"),
    Case::late("loop-indirect"),
    Case::late("loop-fill"),
    Case::late("loop-copy"),
    Case::late("loop-table-fill"),
    Case::late("loop-grow-nothing"),
    Case::late("loop-post-return"),
    Case::late("loop-destructor"),
    Case::late("loop-inner"),
    Case::late("loop-texts"),
    Case::late("realloc-loop"),
];

/// Who calls deeper than there is stack, or back into itself.
pub const STACK: &[Case] = &[
    Case::run("recursion", Code::StackOverflow, "the stack of 512 KiB"),
    Case::start("recursion-start", Code::StackOverflow, "the stack of 512 KiB"),
    Case::run("recursion-table", Code::StackOverflow, "the stack of 512 KiB"),
    Case::run("recursion-wide", Code::StackOverflow, "the stack of 512 KiB"),
    Case::run("recursion-instances", Code::StackOverflow, "the stack of 512 KiB"),
    Case::run("recursion-realloc", Code::StackOverflow, "the stack of 512 KiB"),
    Case::trap("reenter", "cannot enter component instance"),
    Case::trap("realloc-leaves", "cannot leave component instance"),
    Case::trap("post-return-leaves", "cannot leave component instance"),
];

/// Who takes more memory or table than it has.
pub const MEMORIES: &[Case] = &[
    Case::run("grow-once", Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 67174400"),
    Case::run("grow-steps", Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 4259840"),
    Case::run("grow-apart", Code::MemoryLimit, MEMORY),
    Case::start("memory-initial", Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 67108864"),
    Case::start("memory-most", Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 4294967296"),
    Case::late("memory-filled"),
    Case::start("memories", Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 5242880"),
    Case::load("memories-many", Code::TooLarge, "memories"),
    Case::load("instances-many", Code::TooLarge, "instances"),
    Case::run("realloc-grows", Code::MemoryLimit, MEMORY),
    Case::run("table-grow", Code::MemoryLimit, "10000 table elements"),
    Case::run("table-grow-apart", Code::MemoryLimit, "10000 table elements"),
    Case::load("table-initial", Code::TooLarge, "table"),
    Case::start("tables", Code::MemoryLimit, "10000 table elements"),
    Case::load("tables-many", Code::TooLarge, "tables"),
];

/// Who does what an instruction does not allow.
pub const TRAPS: &[Case] = &[
    Case::trap("unreachable", "unreachable code"),
    Case::start("trap-start", Code::Trap, "unreachable code"),
    Case::trap("bounds", "out of bounds memory access"),
    Case::trap("divide", "integer divide by zero"),
    Case::trap("overflow", "integer overflow"),
    Case::trap("signature", "indirect call type mismatch"),
    Case::trap("table-empty", "uninitialized element"),
    Case::trap("table-beyond", "undefined element"),
    Case::trap("fill-beyond", "out of bounds memory access"),
    Case::start("data-beyond", Code::Trap, "out of bounds memory access"),
    Case::start("elements-beyond", Code::Trap, "out of bounds table access"),
];

/// Who asks the host for more than it may, or waits in it.
pub const HOST_CALLS: &[Case] = &[
    Case::run("flood-calls", Code::HostCallLimit, "limits.host-calls = 100"),
    Case::run("flood-bytes", Code::HostCallLimit, "limits.host-bytes = 65536"),
    Case::run("flood-random", Code::HostCallLimit, "limits.host-calls = 100"),
    Case::trap("random-large", "exceeds limit 65536"),
    Case::late("sleep"),
    Case::late("sleep-most"),
    Case::start("sleep-start", Code::Deadline, "the deadline of 5000 ms"),
    Case::trap("poll-nothing", "empty"),
    Case::trap("poll-same", "handle limit"),
    Case::trap("poll-beyond", "out of bounds"),
    Case::trap("poll-dropped", "handle"),
    Case::trap("stdout-large", "more than `check-write` allows"),
    Case::trap("say-beyond", "out of bounds"),
    Case::trap("say-bytes", "utf-8"),
    Case::trap("say-level", "discriminant"),
    Case::trap("say-escapes", "unreachable code"),
];

/// Whose answers, and room for arguments, are not what its types say.
pub const DATA: &[Case] = &[
    Case::trap("realloc-trap", "unreachable code"),
    Case::trap("realloc-beyond", "realloc return"),
    Case::trap("realloc-misaligned", "realloc return"),
    Case::trap("post-return", "unreachable code"),
    Case::trap("result-pointer", "out of bounds"),
    Case::trap("result-length", "out of bounds"),
    Case::trap("result-wraps", "out of bounds"),
    Case::trap("result-utf8", "utf-8"),
    Case::trap("result-utf16-odd", "aligned"),
    Case::trap("result-utf16-half", "surrogate"),
    Case::trap("result-utf16-beyond", "out of bounds"),
    Case::trap("result-latin1-beyond", "out of bounds"),
    Case::trap("result-list", "out of bounds"),
    Case::trap("result-list-misaligned", "aligned"),
    Case::trap("result-nested", "out of bounds"),
    Case::trap("result-repeated", "fuel").lifts(),
    Case::trap("result-repeated-lists", "fuel").lifts(),
    Case::trap("result-area", "aligned"),
    Case::trap("result-area-beyond", "out of bounds"),
    Case::trap("enum", "discriminant"),
    Case::trap("variant", "discriminant"),
    Case::trap("outcome", "discriminant"),
    Case::trap("char", "char"),
];

/// Who uses handles that it does not have, or makes too many.
pub const HANDLES: &[Case] = &[
    Case::trap("handles-own", "handle limit"),
    Case::trap("handles-host", "no free keys").calls(2_000),
    Case::trap("handle-twice", "unknown handle index"),
    Case::trap("handle-gone", "unknown handle index"),
    Case::trap("handle-guessed", "unknown handle index"),
    Case::trap("handle-none", "unknown handle index"),
    Case::trap("handle-largest", "unknown handle index"),
    Case::trap("handle-confused", "handle index"),
    Case::trap("handle-kept", "borrow handles still remain"),
    Case::trap("handle-given-away", "unknown handle index"),
    Case::trap("handle-lent-unknown", "unknown handle index"),
    Case::trap("handle-made-up", "unknown handle index"),
    Case::trap("handles-given", "handle limit"),
];

/// Whose tasks, streams and futures do not keep to the rules, on the engine that has them.
pub const ASYNC: &[Case] = &[
    Case::late("async-loop"),
    Case::late("async-yield"),
    Case::late("async-callback-loop"),
    Case::late("async-wait"),
    Case::trap("async-silent", "failed to produce a result"),
    Case::trap("async-twice", "return"),
    Case::trap("async-code", "callback"),
    Case::trap("async-set", "handle index"),
    Case::trap("async-sets", "handle limit"),
    Case::trap("async-calls", "handle limit").calls(20_000),
    Case::trap("async-streams", "handle limit"),
    Case::trap("async-futures", "handle limit"),
    Case::trap("async-stream-twice", "handle index"),
    Case::trap("async-stream-confused", "handle"),
];

/// Who wants what no engine has, or is no component at all.
pub const REFUSED: &[Case] = &[
    Case::load("wants-memory64", Code::BadComponent, "memory64"),
    Case::load("wants-threads", Code::BadComponent, "threads"),
    Case::load("wants-gc", Code::BadComponent, "gc"),
    Case::load("wants-exceptions", Code::BadComponent, "exceptions"),
    Case::load("wants-tail-calls", Code::BadComponent, "tail"),
    Case::load("wants-memories", Code::BadComponent, "multiple memories"),
    Case::load("wants-relaxed-simd", Code::BadComponent, "relaxed SIMD"),
    Case::load("name-escapes", Code::BadComponent, "ERROR host"),
];

/// All of them, by family.
pub const FAMILIES: &[(&str, &[Case])] = &[
    ("processor", PROCESSOR),
    ("stack", STACK),
    ("memories", MEMORIES),
    ("traps", TRAPS),
    ("host calls", HOST_CALLS),
    ("data", DATA),
    ("handles", HANDLES),
    ("async", ASYNC),
    ("refused", REFUSED),
];

/// Files of `tests/hostile` that end in no way of their own: other tests say what becomes of them.
pub const ELSEWHERE: &[&str] = &["bool", "flags", "large-answer", "policy", "say-nothing", "state"];
