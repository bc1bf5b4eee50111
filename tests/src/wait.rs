//! The only place where tests let time pass.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Far above what anything takes on a busy machine: a test that runs into it has found something.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until the answer is good. Panics with the last bad one when the time is over.
#[track_caller]
pub fn eventually<T, E: Display>(patience: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(good) => return good,
            Err(bad) if started.elapsed() >= patience => panic!("not within {patience:?}: {bad}"),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// A number from the environment, for tests that last as long as they are told.
#[track_caller]
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}
