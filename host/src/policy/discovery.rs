//! Discovery policies: `wit/discovery.wit`.

use super::{Fact, FactKey};

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/policy.wit", "../wit/discovery.wit"],
        world: "midplane:discovery/discovery",
        with: { "midplane:policy/types@0.1.0": crate::policy::types },
        additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::exports::midplane::discovery::machine::{
    Candidate, DialOutcome, Effect, Event, Hint, Resolution, Target,
};

/// The kind of discovery policies.
#[derive(Debug)]
pub struct Discovery;

super::kind!(Discovery, "discovery", Discovery, midplane_discovery_machine, fact, []);

fn fact(event: &Event) -> Fact {
    match event {
        Event::Hint(hint) => Fact::Holds(FactKey::Hint(hint.target.address.clone())),
        _ => Fact::None,
    }
}
