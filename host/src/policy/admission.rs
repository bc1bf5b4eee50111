//! Admission policies: `wit/admission.wit`.

use super::Fact;
use super::machine::Machine;
use crate::words::Outcome;

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
mod bindings {
    wasmtime::component::bindgen!({
        path: ["../wit/policy.wit", "../wit/admission.wit"],
        world: "midplane:admission/admission",
        with: { "midplane:policy/types@0.1.0": crate::policy::types },
        additional_derives: [Clone, PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::exports::midplane::admission::machine::{Effect, Event, Membership, Request, Verdict};

/// The kind of admission policies.
#[derive(Debug)]
pub struct Admission;

super::kind!(Admission, "admission", Admission, midplane_admission_machine, fact, [admit]);

fn fact(_: &Event) -> Fact {
    Fact::None
}

impl Machine<Admission> {
    /// Asks whether a peer may come in.
    pub fn admit(&mut self, now: u64, request: &Request) -> Outcome<Verdict> {
        self.question("admit", now, request, |bindings, store, now| {
            bindings.midplane_admission_machine().call_admit(store, now, request)
        })
    }
}
