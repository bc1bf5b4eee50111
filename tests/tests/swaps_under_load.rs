//! Everything is replaced while it is called: no call fails, is answered by what was not in force, or loses an item.
//!
//! `make bench-swap` is the long form, and says how fast it is.

use std::time::Duration;

use midplane_tests::load::callers::Callers;
use midplane_tests::load::{Plan, Turns, run};

/// Swaps of each kind, so many that each bad version has its turn between them.
const SWAPS: u64 = 20;

#[test]
fn no_call_notices_that_everything_is_replaced() {
    let pace = [Some(400), Some(400), Some(20), None, Some(100)];
    let callers = Callers { count: [1, 2, 1, 2, 2], pace, long: Duration::from_secs(1), always: false };
    let plan = Plan {
        versions: 3,
        phases: vec![("paced", callers, Duration::from_millis(200), SWAPS)],
        every: Duration::from_millis(250),
        turns: Turns { returns: 11, bad: 2, back: 5 },
        // So long that a machine that is busy with other things does not miss it.
        probation: "5s",
        warm: 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let summary = runtime.block_on(run(&plan, |line| eprintln!("{line}"))).unwrap();
    eprintln!("{summary}");
    assert!(summary.wrong().is_empty(), "{:#?}", summary.wrong());
    let phase = &summary.phases[0];
    assert!(phase.fewest_swaps() >= SWAPS && phase.back > 0 && phase.refused.len() == 7);
    assert_eq!(phase.returned, 2, "each node goes back once");
    assert!(phase.long_over.as_ref().is_some_and(|over| *over.end() > 0), "no long call went over a swap");
}
