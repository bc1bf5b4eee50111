//! `stamped`: says which bytes answered, at once or after a rest.

midplane_sdk::skill!(Stamped);

use wasi::clocks::monotonic_clock::subscribe_duration;

struct Stamped;

/// Tests write other digits into the component.
static STAMP: [u8; 22] = *b"stamp=0000000000000000";

impl Guest for Stamped {
    fn stamp() -> u64 {
        stamp()
    }

    fn rest(ms: u64) -> u64 {
        subscribe_duration(ms * 1_000_000).block();
        stamp()
    }
}

fn stamp() -> u64 {
    // Not known before it runs.
    let stamp = std::hint::black_box(&STAMP);
    stamp[6..].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
