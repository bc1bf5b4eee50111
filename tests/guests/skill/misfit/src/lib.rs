//! `misfit`: the names of an interface that others import, with other types.

midplane_sdk::skill!(Misfit);

use exports::tests::weather::forecast::{Guest, Place};

struct Misfit;

impl Guest for Misfit {
    fn get(at: Place, when: String) -> Result<String, String> {
        Err(format!("{} {when}", at.name))
    }

    fn station() -> u32 {
        4
    }

    fn note(_: String) {}
}
