//! The only place that reads the machine's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// Boards without a battery start in 1970; a time before this is not a time that somebody set.
const PLAUSIBLE_MS: u64 = 1_700_000_000_000;

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Whether the wall clock has been set at all.
pub fn is_trusted(now_ms: u64) -> bool {
    now_ms >= PLAUSIBLE_MS
}

/// The monotonic clock, for deadlines and measuring.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The deadline that lies so many milliseconds ahead.
pub fn deadline_in(ms: u64) -> Instant {
    monotonic() + Duration::from_millis(ms)
}

/// Milliseconds left until a deadline; 0 when it has passed.
pub fn left_ms(deadline: Instant) -> u64 {
    u64::try_from(deadline.saturating_duration_since(monotonic()).as_millis()).unwrap_or(u64::MAX)
}
