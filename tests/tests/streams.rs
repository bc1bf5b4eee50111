//! Streams out of a guest: backpressure, cancelling, and every way in which one can end.

use std::sync::Arc;
use std::time::Duration;

use midplane::clock;
use midplane::wasm::stream::Items;
use midplane::wasm::workload::{Answer, Workload};
use midplane::words::json::{cbor_to_json, json_to_cbor};
use midplane::words::objects::{Instances, Limits};
use midplane::words::schema::Form;
use midplane::words::{Code, Fault, Outcome, cbor};
use midplane_tests::guests::{Bench, PATIENCE, TIGHT, answers, built, call, start, until};
use serde_json::{Value, json};

/// More than any buffer between a guest and its reader holds.
const ENDLESS: u64 = u64::MAX;
/// The most that a guest may get rid of while nobody reads: 4 batches of at most 32 items wait, and one is in the hand.
const BUFFERED_MOST: usize = 5 * 32;

const LIMITS: Limits = Limits { concurrency: 1, deadline_ms: 20_000, host_calls: 1_000_000, ..TIGHT };

async fn guest(bench: &Bench, limits: Limits) -> Arc<Workload> {
    bench.prepare("skill/streams", &built("test/skill/streams"), limits, Instances::Fresh).await.unwrap()
}

async fn stream(workload: &Arc<Workload>, function: &str, arguments: Value) -> Outcome<Items> {
    match start(workload, function, Form::Json, &json_to_cbor(&arguments), PATIENCE).await? {
        Answer::Stream(items) => Ok(items),
        Answer::Value(_) => panic!("{function} does not stream"),
    }
}

/// Reads to the end: the items, and the error if it ends in one.
async fn drain(items: &mut Items) -> (Vec<Value>, Option<Fault>) {
    let mut values = Vec::new();
    while let Some(next) = items.next().await {
        match next {
            Ok(batch) => {
                values.extend(
                    cbor::sequence(&batch).unwrap().into_iter().map(|item| cbor_to_json(item).unwrap()),
                );
            }
            Err(fault) => return (values, Some(fault)),
        }
    }
    (values, None)
}

/// How many items the guest saw taken.
fn taken(bench: &Bench) -> usize {
    bench.log.tail(usize::MAX, Some("skill/streams")).len()
}

/// Waits until the guest comes no further for a while, which is all that can be seen of one that waits.
async fn comes_to_rest(bench: &Bench) -> usize {
    let (mut before, mut since) = (taken(bench), clock::monotonic());
    until("the guest rests", || {
        let now = taken(bench);
        if now != before {
            (before, since) = (now, clock::monotonic());
        }
        since.elapsed() > Duration::from_millis(150)
    })
    .await;
    before
}

fn numbers(n: u64) -> Vec<Value> {
    (0..n).map(Value::from).collect()
}

#[tokio::test]
async fn a_stream_arrives_whole_and_in_order() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    for (function, arguments, expect) in [
        ("count", json!([0]), numbers(0)),
        ("count", json!([1]), numbers(1)),
        ("count", json!([500]), numbers(500)),
        ("count-many", json!([5_000, 1_000]), numbers(5_000)),
        ("count-many", json!([77, 32]), numbers(77)),
        ("count-or", json!([3, null]), numbers(3)),
        ("count-then-say", json!([3, null]), numbers(3)),
        ("texts", json!([3, 4]), vec![json!("xxxx"); 3]),
        ("texts", json!([2, 100_000]), vec![json!("x".repeat(100_000)); 2]),
    ] {
        let mut items = stream(&workload, function, arguments.clone()).await.unwrap();
        let (values, fault) = drain(&mut items).await;
        assert_eq!(fault, None, "{function} {arguments}");
        assert!(values == expect, "{function} {arguments}: {} items", values.len());
        assert!(items.next().await.is_none(), "there is nothing after the end");
    }
    assert_eq!(call(&workload, "double", json!([21])).await.unwrap(), json!(42));
}

#[tokio::test]
async fn fibonacci_numbers_stream_out_of_math2() {
    let bench = Bench::default();
    let math2 =
        bench.prepare("skill/math2", &built("skill/math2"), LIMITS, Instances::Reuse(3)).await.unwrap();
    for _ in 0..4 {
        let mut items = stream(&math2, "fib-stream", json!({"n": 10})).await.unwrap();
        assert_eq!(Value::from(drain(&mut items).await.0), json!([0, 1, 1, 2, 3, 5, 8, 13, 21, 34]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_waits_for_its_reader() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    let neighbour = bench.neighbour().await;
    let mut items = stream(&workload, "count", json!([ENDLESS])).await.unwrap();
    until("it begins", || taken(&bench) > 0).await;
    let first = comes_to_rest(&bench).await;
    assert!((1..=BUFFERED_MOST).contains(&first), "{first} items while nobody reads");
    answers(&neighbour).await;
    // Each item that is read makes room for the next, and for no more than that.
    let mut read = 0;
    for _ in 0..20 {
        read += cbor::sequence(&items.next().await.unwrap().unwrap()).unwrap().len();
    }
    let second = comes_to_rest(&bench).await;
    assert!(second > first, "reading did not make it go on");
    assert!(second <= read + BUFFERED_MOST, "{second} items, {read} of them read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_writes_wait_as_well() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    let mut items = stream(&workload, "count-many", json!([ENDLESS, 1_000])).await.unwrap();
    let writes = comes_to_rest(&bench).await;
    assert_eq!(writes, 0, "a write of 1000 items was taken while nobody reads");
    let mut read = 0;
    while read < 1_000 {
        read += cbor::sequence(&items.next().await.unwrap().unwrap()).unwrap().len();
    }
    assert!(comes_to_rest(&bench).await <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_joined_by_a_slow_reader_keep_pace() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    let neighbour = bench.neighbour().await;
    let mut items = stream(&workload, "count", json!([1_000])).await.unwrap();
    let (mut sum, mut read, mut ahead) = (json!(0), 0, 0);
    while let Some(batch) = items.next().await {
        for item in cbor::sequence(&batch.unwrap()).unwrap() {
            sum = call(&neighbour, "add", json!([sum, cbor_to_json(item).unwrap()])).await.unwrap();
            read += 1;
        }
        ahead = ahead.max(taken(&bench).saturating_sub(read));
    }
    assert_eq!((sum, read), (json!(499_500), 1_000));
    assert!(ahead <= BUFFERED_MOST, "the guest was {ahead} items ahead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_lets_go_ends_the_guest() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    for read in [0, 1, 30] {
        let mut items = stream(&workload, "count", json!([ENDLESS])).await.unwrap();
        for _ in 0..read {
            items.next().await.unwrap().unwrap();
        }
        assert_eq!(call(&workload, "double", json!([1])).await.unwrap_err().code, Code::Busy);
        drop(items);
        free_again(&workload).await;
        let rest = taken(&bench);
        assert_eq!(comes_to_rest(&bench).await, rest, "the guest goes on without a reader");
    }
}

/// The one place of the plugin is free: the store of the call before is gone.
async fn free_again(workload: &Arc<Workload>) {
    let deadline = clock::monotonic() + PATIENCE;
    loop {
        match call(workload, "double", json!([1])).await {
            Ok(value) => return assert_eq!(value, json!(2)),
            Err(fault) => assert!(fault.code == Code::Busy && clock::monotonic() < deadline, "{fault}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_lets_go_before_the_answer_ends_the_guest() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    let polled = tokio::time::timeout(Duration::ZERO, stream(&workload, "count", json!([ENDLESS]))).await;
    drop(polled);
    free_again(&workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_a_stream_by_name() {
    let bench = Bench::default();
    let workload = guest(&bench, Limits { deadline_ms: 2_000, ..LIMITS }).await;
    for (function, n, reads) in [
        ("count", ENDLESS, false),
        ("count-then-yield", 3, false),
        ("count-then-yield", 3, true),
        ("count-then-spin", 3, true),
        ("count-then-spin", 3, false),
    ] {
        let mut items = stream(&workload, function, json!([n])).await.unwrap();
        if !reads {
            // Nobody reads until the guest is gone.
            free_again(&workload).await;
        }
        let (values, fault) = drain(&mut items).await;
        let fault = fault.unwrap_or_else(|| panic!("{function} ended well after {} items", values.len()));
        assert_eq!(fault.code, Code::Deadline, "{fault}");
        let report = fault.report.as_ref().unwrap();
        assert_eq!((&*report.plugin, &*report.function), ("skill/streams", function));
        assert!(report.limit.contains("2000 ms"), "{}", report.limit);
        let expect = numbers(if n == ENDLESS { values.len() as u64 } else { n });
        assert_eq!(values, expect, "what came before the end");
        assert!(values.len() <= BUFFERED_MOST);
        free_again(&workload).await;
    }
}

#[tokio::test]
async fn a_trap_comes_after_the_items_before_it() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    for n in [1, 3, 200] {
        let mut items = stream(&workload, "count-then-trap", json!([n])).await.unwrap();
        let (values, fault) = drain(&mut items).await;
        let fault = fault.expect("it ended well");
        assert_eq!((values, fault.code), (numbers(n), Code::Trap), "{fault}");
        let report = fault.report.unwrap();
        assert_eq!((&*report.plugin, &*report.function), ("skill/streams", "count-then-trap"));
        assert!(items.next().await.is_none());
        free_again(&workload).await;
    }
    let fault = stream(&workload, "trap-first", json!([])).await.err().unwrap();
    assert_eq!(fault.code, Code::Trap, "{fault}");
    free_again(&workload).await;
}

#[tokio::test]
async fn errors_of_the_function_itself_are_told_apart() {
    let bench = Bench::default();
    let workload = guest(&bench, LIMITS).await;
    let fault = stream(&workload, "count-or", json!([3, "not today"])).await.err().unwrap();
    assert_eq!((fault.code, &*fault.what), (Code::Application, "not today"));
    free_again(&workload).await;
    let mut items = stream(&workload, "count-then-say", json!([3, "broke off"])).await.unwrap();
    let (values, fault) = drain(&mut items).await;
    let fault = fault.expect("it ended well");
    assert_eq!((values, fault.code, &*fault.what), (numbers(3), Code::Application, "broke off"));
    free_again(&workload).await;
}

#[tokio::test]
async fn an_error_after_the_stream_waits_for_nobody() {
    let bench = Bench::default();
    let workload = guest(&bench, Limits { deadline_ms: 2_000, ..LIMITS }).await;
    let mut items = stream(&workload, "count-then-say", json!([ENDLESS, "never said"])).await.unwrap();
    items.next().await.unwrap().unwrap();
    drop(items);
    free_again(&workload).await;
}
