//! Routing policies: `wit/routing.wit`.

use super::machine::Machine;
use super::{Fact, FactKey};
use crate::words::Outcome;

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/policy.wit", "../wit/routing.wit"],
        world: "midplane:routing/routing",
        with: { "midplane:policy/types@0.1.0": crate::policy::types },
        additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::exports::midplane::routing::machine::{
    CallOutcome, Choice, Claim, Effect, Event, Forward, Hop, LearnOutcome, Pick, Plan, Query, Scope,
};

/// The kind of routing policies.
#[derive(Debug)]
pub struct Routing;

super::kind!(Routing, "routing", Routing, midplane_routing_machine, fact, [decide]);

fn fact(event: &Event) -> Fact {
    match event {
        Event::Serving(claim) => Fact::Holds(FactKey::Serving(claim.name.clone())),
        Event::Withdrawn(name) => Fact::Ended(FactKey::Serving(name.clone())),
        _ => Fact::None,
    }
}

impl Machine<Routing> {
    /// Asks where a call goes.
    pub fn decide(&mut self, now: u64, query: &Query) -> Outcome<Plan> {
        self.question("decide", now, query, |bindings, store, now| {
            bindings.midplane_routing_machine().call_decide(store, now, query)
        })
    }
}
