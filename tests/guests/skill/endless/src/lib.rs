//! `endless`: a stream that only its reader ends.

use midplane_sdk::wit_bindgen::{StreamReader, spawn_local};

midplane_sdk::skill!(Endless);

struct Endless;

impl Guest for Endless {
    async fn count() -> StreamReader<u64> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            for number in 0.. {
                // What comes back was not taken: nobody reads any more.
                if writer.write_one(number).await.is_some() {
                    return;
                }
            }
        });
        reader
    }

    fn one() -> u64 {
        1
    }
}
