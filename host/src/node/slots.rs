//! The policy slots of a node: how they are seated, and what they are told.

use std::time::Duration;

use super::claims;
use super::effects::{Base, CarryAdmission, CarryDiscovery, CarryRouting};
use super::generation::{Generation, Runs};
use super::{Node, NodeInner};
use crate::clock;
use crate::log::Level;
use crate::policy::Kind as _;
use crate::policy::admission::Admission;
use crate::policy::discovery::{self, Discovery};
use crate::policy::machine::Program;
use crate::policy::routing::{self, Routing};
use crate::policy::slot::{Health, Slot};
use crate::policy::types::{BaseEvent, Message};
use crate::words::objects::{Kind, Plugin};
use crate::words::{Code, Fault, Outcome};

/// A slot of any kind.
#[derive(Clone)]
pub enum AnySlot {
    /// Discovery.
    Discovery(Slot<Discovery>),
    /// Admission.
    Admission(Slot<Admission>),
    /// Routing.
    Routing(Slot<Routing>),
}

/// Does the same for each kind.
macro_rules! each {
    ($slot:expr, $name:ident => $body:expr) => {
        match $slot {
            AnySlot::Discovery($name) => $body,
            AnySlot::Admission($name) => $body,
            AnySlot::Routing($name) => $body,
        }
    };
}

impl AnySlot {
    /// Queues a base event.
    pub async fn tell_base(&self, event: BaseEvent) -> Outcome<()> {
        match self {
            AnySlot::Discovery(slot) => slot.tell(Discovery::base_event(event)).await,
            AnySlot::Admission(slot) => slot.tell(Admission::base_event(event)).await,
            AnySlot::Routing(slot) => slot.tell(Routing::base_event(event)).await,
        }
    }

    /// Queues a message from a peer.
    pub async fn deliver(&self, message: Message) -> Outcome<()> {
        each!(self, slot => slot.deliver(message).await)
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        each!(self, slot => slot.health())
    }

    /// Saves and ends it.
    pub async fn stop(&self) {
        each!(self, slot => slot.stop().await);
    }
}

/// Gives a program its slot: in the place of an old one of the same kind, with its state, or in a new one.
pub async fn seat(node: &Node, entry: &Plugin, program: Program, before: Option<&Runs>) -> Outcome<AnySlot> {
    match (entry.kind, before) {
        (Kind::Discovery, Some(Runs::Policy(AnySlot::Discovery(slot)))) => {
            slot.swap(program, CarryDiscovery::boxed(node, entry)).await?;
            Ok(AnySlot::Discovery(slot.clone()))
        }
        (Kind::Admission, Some(Runs::Policy(AnySlot::Admission(slot)))) => {
            slot.swap(program, CarryAdmission::boxed(node, entry)).await?;
            Ok(AnySlot::Admission(slot.clone()))
        }
        (Kind::Routing, Some(Runs::Policy(AnySlot::Routing(slot)))) => {
            slot.swap(program, CarryRouting::boxed(node, entry)).await?;
            Ok(AnySlot::Routing(slot.clone()))
        }
        (Kind::Discovery, _) => {
            let (carry, state) = (CarryDiscovery::boxed(node, entry), Base::kept(node, entry));
            Slot::start(program, carry, state).map(AnySlot::Discovery)
        }
        (Kind::Admission, _) => {
            let (carry, state) = (CarryAdmission::boxed(node, entry), Base::kept(node, entry));
            Slot::start(program, carry, state).map(AnySlot::Admission)
        }
        (Kind::Routing, _) => {
            let (carry, state) = (CarryRouting::boxed(node, entry), Base::kept(node, entry));
            Slot::start(program, carry, state).map(AnySlot::Routing)
        }
        (Kind::Skill, _) => Err(Fault::new(Code::Internal, "a skill has no policy slot")),
    }
}

/// Tells routing which names this node serves now, and which no more.
pub async fn tell_serving(node: &NodeInner, old: &Generation, new: &Generation) {
    let Some(routing) = &new.routing else { return };
    let mut gone: Vec<_> = old.skills.keys().filter(|name| !new.skills.contains_key(*name)).collect();
    gone.sort();
    for name in gone {
        report(node, routing.tell(routing::Event::Withdrawn(name.to_string())).await);
    }
    serve_all(node, new).await;
}

/// Makes claims for all names that this node serves, and hands them to routing.
async fn serve_all(node: &NodeInner, generation: &Generation) {
    let Some(routing) = &generation.routing else { return };
    let identity = &node.identity;
    let mut names: Vec<_> = generation.skills.keys().collect();
    names.sort();
    for name in names {
        let claim = claims::make(
            identity.trusted.mesh,
            identity.id,
            name,
            &identity.key,
            &identity.membership_signed,
            clock::now_ms(),
        );
        match claim {
            Ok(claim) => report(node, routing.tell(routing::Event::Serving(claim)).await),
            Err(fault) => report(node, Err(fault)),
        }
    }
}

/// Tells discovery slots that are new where peers may be.
pub async fn tell_hints(node: &NodeInner, old: &Generation, new: &Generation) {
    for (installed, slot) in new.policies() {
        let AnySlot::Discovery(slot) = slot else { continue };
        // A slot that was there has been told; an instance that takes its place is told all facts by the slot itself.
        let known = old
            .plugins
            .get(&installed.entry.slot)
            .is_some_and(|before| matches!(before.runs, Runs::Policy(AnySlot::Discovery(_))));
        if known {
            continue;
        }
        for hint in &node.hints {
            report(node, slot.tell(discovery::Event::Hint(hint.clone())).await);
        }
    }
}

/// Renews the claims of this node for as long as it runs.
pub async fn renew_claims(node: Node) {
    let mut renew = tokio::time::interval(Duration::from_millis(claims::RENEW_MS));
    renew.tick().await;
    loop {
        renew.tick().await;
        serve_all(&node, &node.generation.load_full()).await;
    }
}

/// Writes a failure to the log.
pub fn report(node: &NodeInner, outcome: Outcome<()>) {
    if let Err(fault) = outcome {
        node.log.host(Level::Warn, &fault.to_string());
    }
}
