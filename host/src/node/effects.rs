//! What policies may do: one [`Carry`] per kind checks each effect against the grants and carries it out.
//!
//! Which effects a kind has is decided by its WIT file; what their parameters may be is decided here. A policy can only
//! narrow: no effect gives it more than the host allows anyway.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::Node;
use super::claims::{self, Rules};
use super::links::LinkEvent;
use crate::clock;
use crate::log::Level;
use crate::net::endpoint::lookup;
use crate::policy::Kind as PolicyKind;
use crate::policy::admission::{self, Admission};
use crate::policy::discovery::{self, Discovery};
use crate::policy::machine::{Machine, Program};
use crate::policy::routing::{self, Routing};
use crate::policy::slot::Carry;
use crate::policy::sync::Sync;
use crate::policy::types::{Message, Setup, State};
use crate::store::state::Kept;
use crate::words::objects::{Handover, Kind, Plugin};
use crate::words::{Digest, Fault, Outcome};

/// Names that one discovery slot may have looked up at a time.
const LOOKUPS_MOST: usize = 16;

/// How old the state may be with which a component comes back: half of the life of the claims in it.
const OWN_MOST_MS: u64 = claims::RENEW_MS;

/// What they have in common.
pub struct Base {
    pub(super) node: Node,
    pub(super) slot: String,
    component: Digest,
    config: String,
    runtime: Handle,
    now: u64,
}

impl Base {
    pub(super) fn new(node: &Node, entry: &Plugin) -> Self {
        let (slot, config) = (entry.slot.clone(), entry.config.clone());
        let component = entry.component.digest;
        Self { node: node.clone(), slot, component, config, runtime: Handle::current(), now: 0 }
    }

    /// What a policy starts from in a slot that nobody has: its own last state, or that of who had the slot last, if the manifest lets
    /// it be handed over.
    pub fn kept(node: &Node, entry: &Plugin) -> Option<State> {
        let kept = states(node, &entry.slot);
        let own = kept.iter().find(|kept| kept.component == entry.component.digest);
        let newest = kept.first().filter(|_| entry.handover != Handover::None);
        own.or(newest).map(|kept| kept.state.clone())
    }

    /// What this very component saved last in its slot, unless that says nothing of the mesh any more.
    pub fn own(node: &Node, entry: &Plugin) -> Option<State> {
        let oldest = clock::now_ms().saturating_sub(OWN_MOST_MS);
        let mut kept = states(node, &entry.slot).into_iter();
        let own = kept.find(|kept| kept.component == entry.component.digest && kept.now >= oldest);
        own.map(|kept| kept.state)
    }

    pub(super) fn setup(&mut self, handover: Option<State>) -> Setup {
        let seen = self.node.store.last_seen(&self.slot).unwrap_or_else(|fault| {
            unreadable(&self.node, &self.slot, &fault);
            None
        });
        let mut seed = [0_u8; 8];
        let _ = getrandom::fill(&mut seed);
        let wall = clock::now_ms();
        self.now = self.now.max(seen.unwrap_or(0)).max(wall);
        let identity = &self.node.identity;
        Setup {
            node: identity.id.to_string(),
            label: identity.label.clone(),
            tags: identity.membership.tags.clone(),
            slot: self.slot.clone(),
            config: self.config.clone(),
            seed: u64::from_le_bytes(seed),
            now: self.now,
            clock_trusted: clock::is_trusted(wall),
            handover,
        }
    }

    pub(super) fn send(&self, message: Message) {
        let Ok(peer) = message.peer.parse() else { return };
        if let Some(channel) = self.node.links.channel(&peer, &self.slot) {
            channel.push(message.bytes);
        }
    }

    pub(super) fn reset_channels(&self) {
        for link in self.node.links.all().values() {
            if let Some(channel) = link.channels.get(&self.slot) {
                channel.reset();
            }
        }
    }

    pub(super) fn keep(&self, state: &State) {
        if let Err(fault) = self.node.store.keep_state(&self.slot, &self.component, state, clock::now_ms()) {
            self.node.log.host(Level::Error, &format!("{}: its state was not kept: {fault}", self.slot));
        }
    }
}

/// What was saved in a slot, the newest first; nothing when it cannot be read.
fn states(node: &Node, slot: &str) -> Vec<Kept> {
    node.store.states(slot).unwrap_or_else(|fault| {
        unreadable(node, slot, &fault);
        Vec::new()
    })
}

fn unreadable(node: &Node, slot: &str, fault: &Fault) {
    node.log.host(Level::Warn, &format!("{slot}: its state cannot be read: {fault}"));
}

/// The part of [`Carry`] that all kinds share.
macro_rules! carry_base {
    () => {
        fn setup(&mut self, handover: Option<State>) -> Setup {
            self.base.setup(handover)
        }

        super::effects::carry_base!(but_setup);
    };
    (but_setup) => {
        fn send(&mut self, message: Message) {
            self.base.send(message);
        }

        fn reset_channels(&mut self) {
            self.base.reset_channels();
        }

        fn keep(&mut self, state: &State) {
            self.base.keep(state);
        }

        fn failed(&mut self, fault: &Fault) {
            let (slot, why) = (self.base.slot.clone(), super::journal::why(fault));
            self.base.node.journal.record(crate::words::event::Happened::PolicyRestarted { slot, why });
        }

        fn log(&mut self, level: Level, text: &str) {
            self.base.node.log.plugin(&self.base.slot, level, text);
        }
    };
}
pub(super) use carry_base;

/// Carries out what routing decides.
pub struct CarryRouting {
    base: Base,
}

impl CarryRouting {
    /// For this slot.
    pub fn boxed(node: &Node, entry: &Plugin) -> Box<dyn Carry<Routing>> {
        Box::new(Self { base: Base::new(node, entry) })
    }
}

impl Carry<Routing> for CarryRouting {
    carry_base!();

    fn effect(&mut self, effect: routing::Effect) -> Vec<routing::Event> {
        let node = &self.base.node;
        match effect {
            routing::Effect::Learn(claim) => {
                let generation = node.generation.load();
                let refused = match &generation.manifest {
                    None => Some("no manifest is applied yet".to_owned()),
                    Some(manifest) => {
                        let trusted = node.trusted.load();
                        let rules = Rules { trusted: &trusted, manifest, now: clock::now_ms() };
                        node.claims.learn(&claim, &rules).err().map(|fault| fault.to_string())
                    }
                };
                if let Some(why) = &refused {
                    let text = format!("{} may not serve {}: {why}", short(&claim.node), claim.name);
                    // As a line of the plugin: it may cause as many as it likes.
                    node.log.plugin(&self.base.slot, Level::Warn, &text);
                }
                let routing::Claim { name, node, serial, .. } = claim;
                vec![routing::Event::Learned(routing::LearnOutcome { name, node, serial, refused })]
            }
            routing::Effect::PlansChanged(names) => {
                node.plans.outdate(names.as_deref());
                Vec::new()
            }
            routing::Effect::Base(_) => Vec::new(),
        }
    }
}

/// Carries out what admission decides.
pub struct CarryAdmission {
    base: Base,
}

impl CarryAdmission {
    /// For this slot.
    pub fn boxed(node: &Node, entry: &Plugin) -> Box<dyn Carry<Admission>> {
        Box::new(Self { base: Base::new(node, entry) })
    }
}

impl Carry<Admission> for CarryAdmission {
    carry_base!();

    fn effect(&mut self, effect: admission::Effect) -> Vec<admission::Event> {
        if let admission::Effect::Reconsider(peer) = effect
            && let Ok(peer) = peer.parse()
        {
            // A full queue means that the link loop is busy; the policy may ask again.
            let _ = self.base.node.events.try_send(LinkEvent::Reconsider(peer));
        }
        Vec::new()
    }
}

/// Carries out what discovery decides.
pub struct CarryDiscovery {
    base: Base,
    resolve: Vec<String>,
    lookups: Arc<Semaphore>,
}

impl CarryDiscovery {
    /// For this slot, with its grants.
    pub fn boxed(node: &Node, entry: &Plugin) -> Box<dyn Carry<Discovery>> {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MOST));
        Box::new(Self { base: Base::new(node, entry), resolve: entry.grants.resolve.clone(), lookups })
    }

    fn resolve(&self, name: String) -> Vec<discovery::Event> {
        let host = name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host);
        if !self.resolve.iter().any(|granted| granted == "*" || granted == host) {
            let error = format!("missing-grant: grants.resolve = [{host:?}]");
            let text = format!("may not look up {host}; {error}");
            self.base.node.log.plugin(&self.base.slot, Level::Warn, &text);
            return vec![resolved(name, Vec::new(), Some(error))];
        }
        let Ok(place) = self.lookups.clone().try_acquire_owned() else {
            let error = format!("{LOOKUPS_MOST} names are being looked up already");
            return vec![resolved(name, Vec::new(), Some(error))];
        };
        let node = self.base.node.clone();
        let slot = self.base.slot.clone();
        self.base.runtime.spawn(async move {
            let found = lookup(&name).await;
            drop(place);
            let event = match found {
                Ok(addresses) => resolved(name, addresses.iter().map(ToString::to_string).collect(), None),
                Err(fault) => resolved(name, Vec::new(), Some(fault.to_string())),
            };
            node.tell_discovery(&slot, event).await;
        });
        Vec::new()
    }
}

impl Carry<Discovery> for CarryDiscovery {
    carry_base!();

    fn effect(&mut self, effect: discovery::Effect) -> Vec<discovery::Event> {
        let node = &self.base.node;
        match effect {
            discovery::Effect::Dial(target) => {
                let _runtime = self.base.runtime.enter();
                if let Err(fault) = node.dials.want(node, &self.base.slot, &target) {
                    node.log.plugin(&self.base.slot, Level::Warn, &fault.to_string());
                    let error = Some(fault.to_string());
                    return vec![discovery::Event::Dialled(discovery::DialOutcome {
                        target,
                        peer: None,
                        error,
                    })];
                }
                Vec::new()
            }
            discovery::Effect::HangUp(target) => {
                if let Some(peer) = node.dials.hang_up(&self.base.slot, &target.address) {
                    let _ = node.events.try_send(LinkEvent::HangUp(peer));
                }
                Vec::new()
            }
            discovery::Effect::Resolve(name) => self.resolve(name),
            discovery::Effect::Candidate(candidate) => {
                let text = format!("{} may be dialled ({})", candidate.target.address, candidate.source);
                node.log.plugin(&self.base.slot, Level::Debug, &text);
                Vec::new()
            }
            discovery::Effect::Forget(_) | discovery::Effect::Base(_) => Vec::new(),
        }
    }
}

/// Starts a program once and throws it away: `init` must accept the configuration before anything is published.
pub fn try_start(node: &Node, entry: &Plugin, program: &Program) -> Outcome<()> {
    let setup = Base::new(node, entry).setup(None);
    fn start<K: PolicyKind>(program: &Program, setup: &Setup) -> Outcome<()> {
        Machine::<K>::start(program, setup).map(|_| ())
    }
    match entry.kind {
        Kind::Discovery => start::<Discovery>(program, &setup),
        Kind::Admission => start::<Admission>(program, &setup),
        Kind::Routing => start::<Routing>(program, &setup),
        Kind::Sync => start::<Sync>(program, &setup),
        kind @ (Kind::Skill | Kind::Gateway) => {
            Err(Fault::new(crate::words::Code::Internal, format!("a {kind} is not a policy")))
        }
    }
}

fn resolved(name: String, addresses: Vec<String>, error: Option<String>) -> discovery::Event {
    discovery::Event::Resolved(discovery::Resolution { name, addresses, error })
}

pub(super) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
