//! Path-vector routing of exact names.
//!
//! Each node tells its neighbours, for each name and node that serves it, the one best path that it uses: the
//! shortest, and among those the one by the neighbour with the smallest id. A path that contains the receiver is neither
//! told nor taken, so there are no loops and nothing counts to infinity. After a full state at the start of a link only
//! changes are told; a network without changes is silent.
//!
//! Config: `pick`, how the host picks among ways: `failover` (default), `spread` or `sticky`.
//!
//! The slot's protocol in the manifest must be `path-vector/1`. Neighbours that speak another one, or are trusted less
//! than `trusted`, are left out.

mod neighbours;
mod table;
mod wire;

#[cfg(test)]
mod simulation;

use std::rc::Rc;

use midplane_sdk::routing::*;
use midplane_sdk::serde::{Deserialize, Serialize};
use midplane_sdk::{Link, Map, Message, Set, Trust, log, set_timer};

use neighbours::Neighbour;
use table::{Changes, Destination, Key, Table};

/// Timer for claims that expire.
const EXPIRY: u64 = 1;
/// Timer for what is left to tell.
const FLUSH: u64 = 2;
/// Timer for news that waits.
const HOLD: u64 = 3;
/// Least pause between two looks for expired claims, so that claims which expire one after the other do not keep
/// the policy busy. Decisions look at the time themselves.
const EXPIRY_MIN_MS: Millis = 1_000;
/// Pause before the rest is told: long enough for other events to come in between.
const FLUSH_MS: Millis = 1;
/// How long the host may use a plan. It is told of every change, so this only bounds the effect of a mistake.
const PLAN_MS: Millis = 60_000;
/// Most hops that the host takes.
const HOPS_MAX: usize = 16;
/// Most nodes in saved paths, so that saving stays within its fuel. What is not saved is heard again.
const SAVED_NODES_MAX: usize = 32_000;
/// Version of the saved state.
const VERSION: &str = "1";

#[derive(Default, Deserialize)]
#[serde(crate = "midplane_sdk::serde", default, deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    pick: Order,
}

/// [`Pick`] as the config spells it.
#[derive(Default, Deserialize)]
#[serde(crate = "midplane_sdk::serde", rename_all = "kebab-case")]
enum Order {
    #[default]
    Failover,
    Spread,
    Sticky,
}

/// A best route, as it is saved; the path begins with this node.
#[derive(Serialize)]
#[serde(crate = "midplane_sdk::serde")]
struct Saving<'a> {
    claim: &'a Claim,
    path: &'a [NodeId],
}

/// The same, as it is handed over.
#[derive(Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
struct Saved {
    claim: Claim,
    path: Vec<NodeId>,
}

/// The policy.
pub struct PathVector {
    node: NodeId,
    slot: String,
    pick: Pick,
    /// What this node serves itself.
    served: Map<String, Rc<Claim>>,
    /// The path to this node itself.
    own_path: table::Path,
    table: Table,
    neighbours: Map<NodeId, Neighbour>,
    /// What neighbours may have to be told, and whether that has waited already.
    dirty: Map<Rc<Key>, bool>,
    /// What waits. The timer [`HOLD`] is set while there is anything.
    held: Set<Rc<Key>>,
    /// When the timer for expired claims is due.
    expiry: Option<Millis>,
}

impl Policy for PathVector {
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String> {
        let config: Config = setup.config()?;
        let pick = match config.pick {
            Order::Failover => Pick::Failover,
            Order::Spread => Pick::Spread,
            Order::Sticky => Pick::Sticky,
        };
        let saved: Vec<Saved> = setup.handed_over(VERSION).unwrap_or_default();
        let own_path = [setup.node.clone()].into();
        let mut policy = Self {
            node: setup.node,
            slot: setup.slot,
            pick,
            served: Map::new(),
            own_path,
            table: Table::default(),
            neighbours: Map::new(),
            dirty: Map::new(),
            held: Set::new(),
            expiry: None,
        };
        let mut changes = Changes::default();
        for Saved { claim, path } in saved {
            policy.table.restore(setup.now, claim, path.into(), &mut changes);
        }
        let effects = policy.carry_out(setup.now, changes);
        Ok((policy, effects))
    }

    fn handle(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        let mut changes = Changes::default();
        match event {
            Event::Base(BaseEvent::LinkUp(link)) => {
                // One more of a linked peer: its channel began anew. It still reaches what it reached, unless its full state,
                // which comes now, does not repeat it.
                if self.neighbours.remove(&link.peer).is_some() {
                    self.table.mark_stale(&link.peer);
                }
                self.link_up(now, &link, &mut changes);
            }
            Event::Base(BaseEvent::LinkChanged(link)) => {
                match (self.speaks(&link), self.neighbours.contains_key(&link.peer)) {
                    (Ok(()), false) => self.link_up(now, &link, &mut changes),
                    (Err(_), true) => self.link_down(now, &link.peer, &mut changes),
                    _ => {}
                }
            }
            Event::Base(BaseEvent::LinkDown(peer)) => self.link_down(now, &peer, &mut changes),
            Event::Base(BaseEvent::Message(message)) => self.message(now, message, &mut changes),
            Event::Base(BaseEvent::Timer(EXPIRY)) => {
                self.expiry = None;
                self.table.expire(now, &mut changes);
            }
            Event::Base(BaseEvent::Timer(HOLD)) => {
                self.dirty.extend(std::mem::take(&mut self.held).into_iter().map(|key| (key, true)));
            }
            Event::Base(BaseEvent::Timer(_)) => {}
            Event::Serving(claim) => {
                let key = self.own(&claim.name);
                changes.dirty.push(key.clone());
                if self.served.insert(claim.name.clone(), Rc::new(claim)).is_none() {
                    changes.planned.push(key);
                }
            }
            Event::Withdrawn(name) => {
                if self.served.remove(&name).is_some() {
                    changes.plan(&self.own(&name));
                }
            }
            Event::Learned(outcome) => self.table.learned(now, outcome, &mut changes),
            // A lost link is followed by its own event; the host goes on to the next hop by itself.
            Event::Outcome(_) => {}
        }
        self.carry_out(now, changes)
    }

    fn decide(&self, now: Millis, query: &Query) -> Plan {
        let here = query.to.as_ref().is_none_or(|to| *to == self.node);
        if here && self.served.contains_key(&query.name) {
            return Plan { choice: Choice::Local, valid_for: PLAN_MS, scope: Scope::Target };
        }
        let (hops, valid_for, known) = self.hops(now, query);
        // What this neighbour must not be sent to, another one may be.
        let scope = if known { Scope::Neighbour } else { Scope::Target };
        let choice = if hops.is_empty() {
            Choice::Unroutable("not served anywhere this node can reach".into())
        } else {
            Choice::Forward(Forward { hops, pick: self.pick })
        };
        Plan { choice, valid_for, scope }
    }

    fn save(&self) -> State {
        let mut nodes = 0;
        let best = self.table.iter().filter_map(|(_, destination)| {
            let saving = Saving { claim: destination.learned.as_deref()?, path: self.best(destination)? };
            nodes += saving.path.len();
            (nodes <= SAVED_NODES_MAX).then_some(saving)
        });
        State::of(VERSION, &best.collect::<Vec<_>>())
    }
}

impl PathVector {
    /// The key of a name that this node serves.
    fn own(&self, name: &str) -> Rc<Key> {
        Rc::new((name.to_owned(), self.node.clone()))
    }

    fn link_up(&mut self, now: Millis, link: &Link, changes: &mut Changes) {
        match self.speaks(link) {
            Ok(()) => {
                self.neighbours.insert(link.peer.clone(), Neighbour::new());
                self.table.linked(now, &link.peer, changes);
            }
            Err(why) => {
                // Routes by it may be left of an earlier instance.
                self.table.forget(now, &link.peer, false, changes);
                changes.warnings.extend(why);
            }
        }
    }

    fn link_down(&mut self, now: Millis, peer: &NodeId, changes: &mut Changes) {
        if self.neighbours.remove(peer).is_some() {
            self.table.forget(now, peer, false, changes);
        }
    }

    /// Whether routes are exchanged with this peer, and otherwise why not when an operator should know.
    fn speaks(&self, link: &Link) -> Result<(), Option<String>> {
        if link.trust < Trust::Trusted {
            return Err(None);
        }
        match link.slots.iter().find(|slot| slot.slot == self.slot) {
            Some(slot) if slot.protocol == wire::PROTOCOL => Ok(()),
            Some(slot) => Err(Some(format!(
                "{} speaks {} in slot {}, not {}: it is left out",
                link.peer,
                slot.protocol,
                self.slot,
                wire::PROTOCOL
            ))),
            None => Err(None),
        }
    }

    fn message(&mut self, now: Millis, message: Message, changes: &mut Changes) {
        let Message { peer, bytes } = message;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else { return };
        let (flags, parts) = wire::read(&bytes);
        if flags & wire::BEGIN != 0 {
            self.table.mark_stale(&peer);
            neighbour.heard_begin(flags & wire::ASK != 0);
        }
        for part in parts {
            match part {
                Ok(wire::Part::Route { claim, path }) => {
                    let loops = path.contains(&self.node);
                    if !loops && wire::acceptable(&claim, &path, &peer) {
                        let path = [&self.node].into_iter().chain(&path).cloned().collect();
                        self.table.route(now, &peer, claim, path, changes);
                    } else {
                        // What the neighbour said before of this destination does not count any more.
                        self.table.withdraw(now, &peer, (claim.name, claim.node), changes);
                    }
                }
                Ok(wire::Part::Withdraw { name, node }) => {
                    self.table.withdraw(now, &peer, (name, node), changes)
                }
                Err(error) => {
                    changes.warnings.push(format!("{peer} sent a message that cannot be read: {error}"));
                    break;
                }
            }
        }
        if flags & wire::END != 0 {
            self.table.forget(now, &peer, true, changes);
        }
    }

    /// Turns changes into effects, and tells neighbours what they should know.
    fn carry_out(&mut self, now: Millis, changes: Changes) -> Vec<Effect> {
        let mut effects = Vec::new();
        // Changes come in order but for a few, which sorting makes use of.
        let mut names: Vec<String> = changes.planned.iter().map(|key| key.0.clone()).collect();
        names.sort();
        names.dedup();
        if !names.is_empty() {
            effects.push(Effect::PlansChanged(Some(names)));
        }
        effects.extend(changes.learn.into_iter().map(Effect::Learn));
        effects.extend(changes.warnings.into_iter().map(log::warn));
        if let Some(at) = changes.expires.filter(|at| self.expiry.is_none_or(|set| *at < set)) {
            let at = at.max(now + EXPIRY_MIN_MS);
            self.expiry = Some(at);
            effects.push(set_timer(EXPIRY, at - now));
        }
        self.dirty.append(&mut changes.dirty.into_iter().map(|key| (key, false)).collect());
        let waiting = !self.held.is_empty();
        if self.tell(now, &mut effects) {
            effects.push(set_timer(FLUSH, FLUSH_MS));
        }
        if !waiting && !self.held.is_empty() {
            effects.push(set_timer(HOLD, neighbours::HOLD_MS));
        }
        effects
    }

    /// The path by the best neighbour.
    fn best<'a>(&self, destination: &'a Destination) -> Option<&'a table::Path> {
        let linked = destination.routes.iter().filter(|(peer, _)| self.neighbours.contains_key(*peer));
        // The first of equals, so the neighbour with the smallest id.
        linked.map(|(_, route)| &route.path).min_by_key(|path| path.len())
    }

    /// The best ways of a query, how long they are good, and whether there is any way when `from` is not looked at.
    fn hops(&self, now: Millis, query: &Query) -> (Vec<Hop>, Millis, bool) {
        let mut best: Vec<(usize, &NodeId, &NodeId)> = Vec::with_capacity(HOPS_MAX + 1);
        let (mut valid_for, mut known) = (PLAN_MS, false);
        for (node, destination) in self.table.of_name(&query.name) {
            let wanted = query.to.as_ref().is_none_or(|to| to == node);
            let Some(claim) = destination.learned.as_ref().filter(|claim| wanted && claim.expires > now)
            else {
                continue;
            };
            for (next, route) in
                destination.routes.iter().filter(|(next, _)| self.neighbours.contains_key(*next))
            {
                known = true;
                // A way back through whom the call came from is none.
                if query.from.as_ref().is_some_and(|from| route.path.contains(from)) {
                    continue;
                }
                valid_for = valid_for.min(claim.expires - now);
                let way = (route.path.len() - 1, next, node);
                if best.len() == HOPS_MAX && best.last().is_some_and(|last| *last <= way) {
                    continue;
                }
                best.insert(best.partition_point(|better| *better < way), way);
                best.truncate(HOPS_MAX);
            }
        }
        let hop = |(distance, next, to): (usize, &NodeId, &NodeId)| Hop {
            next: next.clone(),
            to: to.clone(),
            distance: distance as u32,
            weight: 1,
        };
        (best.into_iter().map(hop).collect(), valid_for, known)
    }
}

midplane_sdk::export_routing!(PathVector);
