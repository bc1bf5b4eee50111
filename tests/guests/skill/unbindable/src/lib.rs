//! `unbindable`: uses a resource and a stream that somebody else has.

midplane_sdk::skill!(Unbindable);

use tests::unbindable::things::{self, Thing};

struct Unbindable;

impl Guest for Unbindable {
    fn all(x: u32) -> u32 {
        drop(things::watch(x));
        Thing::new(x).size() + things::plain(x)
    }
}
