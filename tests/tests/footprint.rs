//! What hostile components cost the process that is handed them. In a file of its own, and one test after the other: memory
//! is measured for the whole process.

#![expect(
    clippy::await_holding_lock,
    reason = "the lock keeps these tests one after the other; each has a runtime of its own"
)]

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midplane::wasm::workload::Answer;
use midplane::words::Code;
use midplane::words::json::json_to_cbor;
use midplane::words::objects::{Instances, Limits};
use midplane::words::schema::Form;
use midplane_tests::guests::{
    Bench, PATIENCE, TIGHT, UNHURRIED, answers, built, call, engines, forget_peak, hostile, peak, resident,
    start,
};
use serde_json::json;

const MIB: u64 = 1 << 20;
/// What preparing a component may cost the node for a moment, beside the component itself.
const PREPARE_MOST: u64 = 64 * MIB;

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs something and answers by how many bytes the process grew at the most.
async fn growth<T>(work: impl Future<Output = T>) -> (T, u64) {
    forget_peak();
    let before = resident();
    let done = work.await;
    (done, peak().saturating_sub(before))
}

/// A component that exports one function thousands of times, whose type has thousands of members.
fn wide_types(exports: usize, levels: usize, name_bytes: usize) -> Vec<u8> {
    let mut text =
        format!("(component (type $n (enum \"a{}\")) (export $t0 \"e\" (type $n))", "x".repeat(name_bytes));
    for level in 1..=levels {
        let below = level - 1;
        write!(text, "(type $t{level} (tuple $t{below} $t{below}))").unwrap();
    }
    text.push_str(
        "(core module $m (memory (export \"memory\") 1) (func (export \"run\") (result i32) i32.const 0))
         (core instance $i (instantiate $m))",
    );
    write!(
        text,
        "(func $f (result $t{levels}) (canon lift (core func $i \"run\") (memory (core memory $i \"memory\"))))"
    )
    .unwrap();
    (0..exports).for_each(|n| write!(text, "(export \"f{n}\" (func $f))").unwrap());
    text.push(')');
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn types_that_explode_cost_little() {
    let _alone = alone();
    let bench = Bench::default();
    for (exports, levels, name_bytes) in [(3_000, 12, 1), (20, 11, 50_000)] {
        let wasm = wide_types(exports, levels, name_bytes);
        let prepare = bench.prepare("types", &wasm, Limits::default(), Instances::Fresh);
        let (prepared, grew) = growth(prepare).await;
        if let Err(fault) = &prepared {
            assert!(matches!(fault.code, Code::BadComponent | Code::WrongWorld), "{fault}");
        }
        assert!(
            grew < PREPARE_MOST,
            "{exports} exports of {levels} levels: {} MiB for {} KiB",
            grew / MIB,
            wasm.len() >> 10
        );
    }
}

#[tokio::test]
async fn a_large_answer_costs_no_more_than_its_share() {
    let _alone = alone();
    let bench = Bench::default();
    let limits = Limits { memory: 64 << 20, ..UNHURRIED };
    let workload =
        bench.prepare("large-answer", &hostile("large-answer"), limits, Instances::Fresh).await.unwrap();
    // What a link can carry arrives.
    let octets = call(&workload, "octets", json!([MIB])).await.unwrap();
    assert_eq!(octets.as_str().unwrap().len() as u64, MIB.div_ceil(3) * 4);
    assert_eq!(call(&workload, "text", json!([MIB])).await.unwrap().as_str().unwrap().len() as u64, MIB);
    for function in ["octets", "cases"] {
        let (answer, grew) = growth(call(&workload, function, json!([40 * MIB]))).await;
        assert_eq!(answer.unwrap_err().code, Code::Trap, "{function}");
        assert!(grew < 192 * MIB, "{function}: the process grew by {} MiB", grew / MIB);
    }
    call(&workload, "octets", json!([3])).await.unwrap();
}

#[tokio::test]
async fn a_full_pool_is_busy_and_passes() {
    let _alone = alone();
    let bench = Bench::default();
    let neighbour = bench.neighbour().await;
    let limits = Limits { concurrency: 100_000, deadline_ms: 60_000, ..TIGHT };
    let workload =
        bench.prepare("skill/streams", &built("test/skill/streams"), limits, Instances::Fresh).await.unwrap();
    let arguments = json_to_cbor(&json!([u64::MAX]));
    let open = async || start(&workload, "count", Form::Json, &arguments, PATIENCE).await;
    let mut held = Vec::new();
    let fault = loop {
        match open().await {
            Ok(Answer::Stream(items)) => held.push(items),
            Ok(Answer::Value(_)) => panic!("count streams"),
            Err(fault) => break fault,
        }
        assert!(held.len() <= engines().plan().instances as usize, "more instances than places");
    };
    assert_eq!(fault.code, Code::Busy, "{fault}");
    assert!(fault.not_started() && fault.what.contains("skill/streams"), "{fault}");
    assert!(held.len() >= 8, "only {} instances", held.len());
    answers(&neighbour).await;
    drop(held);
    let deadline = midplane::clock::monotonic() + PATIENCE;
    while let Err(fault) = open().await {
        assert!(fault.code == Code::Busy && midplane::clock::monotonic() < deadline, "{fault}");
        tokio::task::yield_now().await;
    }
}
