//! The policy slots of a node: how they are seated, and what they are told.

use std::time::Duration;

use super::changes;
use super::claims::RENEW_MS;
use super::effects::{Base, CarryAdmission, CarryDiscovery, CarryRouting};
use super::generation::{Generation, Installed, Runs};
use super::sync::CarrySync;
use super::{Node, NodeInner};
use crate::clock;
use crate::log::Level;
use crate::policy::Kind as _;
use crate::policy::admission::Admission;
use crate::policy::discovery::{self, Discovery};
use crate::policy::machine::Program;
use crate::policy::recorder::Recorder;
use crate::policy::routing::{self, Routing};
use crate::policy::slot::{Health, Heritage, Slot, Successor};
use crate::policy::succession::Ready;
use crate::policy::sync::Sync;
use crate::policy::types::{BaseEvent, Message};
use crate::words::objects::{Kind, Plugin};
use crate::words::{Code, Fault, Name, Outcome};

/// A slot of any kind.
#[derive(Clone)]
pub enum AnySlot {
    /// Discovery.
    Discovery(Slot<Discovery>),
    /// Admission.
    Admission(Slot<Admission>),
    /// Routing.
    Routing(Slot<Routing>),
    /// Sync.
    Sync(Slot<Sync>),
}

/// Does the same for each kind.
macro_rules! each {
    ($slot:expr, $name:ident => $body:expr) => {
        match $slot {
            AnySlot::Discovery($name) => $body,
            AnySlot::Admission($name) => $body,
            AnySlot::Routing($name) => $body,
            AnySlot::Sync($name) => $body,
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
            AnySlot::Sync(slot) => slot.tell(Sync::base_event(event)).await,
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

    /// Whether both are of one kind.
    pub fn is_like(&self, other: &AnySlot) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Saves and ends it.
    pub async fn stop(&self) {
        each!(self, slot => slot.stop().await);
    }
}

/// A policy that has started and does not count yet.
pub enum Seated {
    /// Beside the one that has the slot.
    Beside(AnySlot, Ready),
    /// In a slot that nobody had.
    New(AnySlot),
}

/// Starts a policy: from its heritage beside the one of the same kind that has its slot, or from what is kept in a slot that nobody has.
pub async fn seat(
    node: &Node,
    entry: &Plugin,
    program: Program,
    before: Option<&Installed>,
    heritage: Heritage,
) -> Outcome<Seated> {
    macro_rules! seat {
        ($kind:ident, $carry:ident) => {{
            let carry = $carry::boxed(node, entry);
            match before.map(|before| &before.runs) {
                Some(Runs::Policy(AnySlot::$kind(slot))) => {
                    let ready = slot.succeed(Successor { program, carry, heritage }).await?;
                    Ok(Seated::Beside(AnySlot::$kind(slot.clone()), ready))
                }
                _ => {
                    let kept = Base::kept(node, entry);
                    let slot = changes::among_calls(async move { Slot::start(program, carry, kept) }).await?;
                    Ok(Seated::New(AnySlot::$kind(slot)))
                }
            }
        }};
    }
    match entry.kind {
        Kind::Discovery => seat!(Discovery, CarryDiscovery),
        Kind::Admission => seat!(Admission, CarryAdmission),
        Kind::Routing => seat!(Routing, CarryRouting),
        Kind::Sync => seat!(Sync, CarrySync),
        kind @ (Kind::Skill | Kind::Gateway) => {
            Err(Fault::new(Code::Internal, format!("a {kind} has no policy slot")))
        }
    }
}

/// Puts a fresh instance of the same component into a slot and records it.
pub async fn record(node: &Node, entry: &Plugin, slot: &AnySlot, recorder: Recorder) -> Outcome<()> {
    match slot {
        AnySlot::Discovery(slot) => slot.record(recorder, CarryDiscovery::boxed(node, entry)).await,
        AnySlot::Admission(slot) => slot.record(recorder, CarryAdmission::boxed(node, entry)).await,
        AnySlot::Routing(slot) => slot.record(recorder, CarryRouting::boxed(node, entry)).await,
        AnySlot::Sync(slot) => slot.record(recorder, CarrySync::boxed(node, entry)).await,
    }
}

/// Tells routing which names this node serves now, and which no more. Returns the serial of the claim of the node's own name: who has
/// heard of that one was told by the routing policy that runs now.
pub async fn tell_serving(node: &NodeInner, old: &Generation, new: &Generation) -> Option<u64> {
    let routing = new.routing.as_ref()?;
    let mut gone: Vec<_> = old.skills.keys().filter(|name| !new.skills.contains_key(*name)).collect();
    gone.sort();
    for name in gone {
        node.claims.note_withdrawn(name);
        report(node, routing.tell(routing::Event::Withdrawn(name.to_string())).await);
    }
    let (knows, now) = (old.routing.as_ref().is_some_and(|before| before.is(routing)), clock::now_ms());
    let new = new.skills.keys().filter(|name| !(knows && node.claims.is_fresh(name, now)));
    let serial = serve(node, routing, new.cloned().collect()).await;
    // Whoever put the generation in force calls its names next.
    routing.reached().await;
    serial
}

/// Makes claims for names that this node serves and for its own name, and hands them to routing. Returns the serial of the latter.
async fn serve(node: &NodeInner, routing: &Slot<Routing>, mut names: Vec<Name>) -> Option<u64> {
    // Its own name is carried like any other, so that operators reach it from anywhere.
    let own = Name::of_node(&node.identity.id);
    names.push(own.clone());
    names.sort();
    let mut serial = None;
    for name in names {
        let claim = node.claims.make(&node.identity, &name, clock::now_ms());
        match claim {
            Ok(claim) => {
                if name == own {
                    serial = Some(claim.serial);
                }
                let expires = claim.expires;
                let told = routing.tell(routing::Event::Serving(claim)).await;
                if told.is_ok() {
                    node.claims.note_told(name, expires);
                }
                report(node, told);
            }
            Err(fault) => report(node, Err(fault)),
        }
    }
    serial
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
    let mut renew = tokio::time::interval(Duration::from_millis(RENEW_MS));
    renew.tick().await;
    loop {
        renew.tick().await;
        node.claims.sweep(clock::now_ms());
        let generation = node.generation.load_full();
        if let Some(routing) = &generation.routing {
            serve(&node, routing, generation.skills.keys().cloned().collect()).await;
        }
    }
}

/// Writes a failure to the log.
pub fn report(node: &NodeInner, outcome: Outcome<()>) {
    if let Err(fault) = outcome {
        node.log.host(Level::Warn, &fault.to_string());
    }
}

impl NodeInner {
    /// Tells a discovery slot something.
    pub async fn tell_discovery(&self, slot: &str, event: discovery::Event) {
        let generation = self.generation.load_full();
        let runs = generation.plugins.get(slot).map(|installed| installed.runs.clone());
        if let Some(Runs::Policy(AnySlot::Discovery(slot))) = runs {
            report(self, slot.tell(event).await);
        }
    }
}
