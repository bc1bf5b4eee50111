//! `make bench-swap`: what replacing everything costs those who call.
//!
//! Two linked nodes run in this process and are called in every way, while routing, discovery, admission, sync, skills and a gateway are
//! replaced on both every second, with rollbacks and with versions that must be refused in between. First all cores are busy: everybody
//! calls as fast as it goes. Then the calls keep a pace, but for one caller who never pauses, so that each publication on the first node
//! falls into a call; how much of the machine was idle is said, because others may use it.
//!
//! `SWAPS=20 make bench-swap` is a short form. Ends with 1 when a call failed, was answered by what was not in force, or lost an item.

use std::process::ExitCode;
use std::time::Duration;

use midplane_tests::load::callers::Callers;
use midplane_tests::load::{Plan, Turns, run};
use midplane_tests::wait::number;

/// Swaps of each kind with all cores busy, and with one free.
const SWAPS: (u64, u64) = (240, 240);
/// How long a long call takes.
const LONG: Duration = Duration::from_secs(5);
/// Time from one change to the next.
const EVERY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let swaps = number("SWAPS").map_or(SWAPS, |swaps| (swaps, swaps.div_ceil(3)));
    let busy = Callers {
        count: [1, 8, 1, 4, 4],
        pace: [None, None, Some(100), None, None],
        long: LONG,
        always: false,
    };
    let pace = [Some(200), Some(50), Some(10), None, Some(50)];
    let calm = Callers { count: [1, 4, 1, 2, 2], pace, long: LONG, always: true };
    let plan = Plan {
        versions: 4,
        phases: vec![
            ("all cores busy", busy, Duration::from_secs(10), swaps.0),
            ("one caller without pause, the others at a pace", calm, Duration::from_secs(5), swaps.1),
        ],
        every: EVERY,
        turns: Turns { returns: 50, bad: 9, back: 7 },
        // Most of the time the next one comes before that.
        probation: "1s",
        warm: 6,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let summary = match runtime.map(|runtime| runtime.block_on(run(&plan, |line| eprintln!("{line}")))) {
        Ok(Ok(summary)) => summary,
        Ok(Err(fault)) => return failed(&fault.to_string()),
        Err(error) => return failed(&error.to_string()),
    };
    print!("{summary}");
    let wrong = summary.wrong();
    wrong.iter().for_each(|what| println!("WRONG        {what}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("swap: {why}");
    ExitCode::FAILURE
}
