//! `stamped-streams`: streams that say which bytes they come from.

use midplane_sdk::wit_bindgen::{StreamReader, spawn_local};

midplane_sdk::skill!(Stamped);

struct Stamped;

/// Tests write other digits into the component.
static STAMP: [u8; 22] = *b"stamp=0000000000000000";

impl Guest for Stamped {
    async fn count(n: u64) -> StreamReader<u64> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            for number in std::iter::once(stamp()).chain(0..n) {
                // What comes back was not taken: nobody reads any more.
                if writer.write_one(number).await.is_some() {
                    return;
                }
            }
        });
        reader
    }
}

fn stamp() -> u64 {
    // Not known before it runs.
    let stamp = std::hint::black_box(&STAMP);
    stamp[6..].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
