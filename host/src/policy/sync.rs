//! Sync policies: `wit/sync.wit`.

use super::Fact;

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/policy.wit", "../wit/sync.wit"],
        world: "midplane:sync/sync",
        with: { "midplane:policy/types@0.1.0": crate::policy::types },
        additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::exports::midplane::sync::machine::{
    Ask, Beginning, Effect, Entry, Event, Head, Loss, Place, Reading, Refusal, Request, Wish,
};

/// The kind of sync policies.
#[derive(Debug)]
pub struct Sync;

super::kind!(Sync, "sync", Sync, midplane_sync_machine, fact, []);

/// What is in the table is read again for each instance, so no event of the kind is a fact.
fn fact(_: &Event) -> Fact {
    Fact::None
}
