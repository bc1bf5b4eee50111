//! `counter`: a singleton that hands over what it knows.

use std::cell::Cell;

use exports::midplane::skill::state::{Guest as State, Saved};

midplane_sdk::skill!(Counter);

struct Counter;

/// Version of the state.
const VERSION: &str = "1";

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

impl Guest for Counter {
    fn next() -> u64 {
        CALLS.replace(CALLS.get() + 1)
    }
}

impl State for Counter {
    fn save() -> Saved {
        Saved { version: VERSION.into(), bytes: CALLS.get().to_be_bytes().to_vec() }
    }

    fn restore(saved: Saved) -> Result<(), String> {
        let bytes: Result<[u8; 8], _> = saved.bytes.try_into();
        match (saved.version.as_str(), bytes) {
            (VERSION, Ok(bytes)) => {
                CALLS.set(u64::from_be_bytes(bytes));
                Ok(())
            }
            (version, _) => Err(format!("a state of version {version:?} is not one of {VERSION:?}")),
        }
    }
}
