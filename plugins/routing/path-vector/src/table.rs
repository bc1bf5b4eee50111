//! What is known of who serves what, and by which neighbour each is reached.

use std::ops::Bound;
use std::rc::Rc;

use midplane_sdk::Map;
use midplane_sdk::routing::{Claim, LearnOutcome, Millis, NodeId};

/// A name and a node that serves it.
pub(crate) type Key = (String, NodeId);
/// Nodes from this one to the one that serves: as neighbours are told it, so that telling copies nothing.
pub(crate) type Path = Rc<[NodeId]>;

/// Most destinations: as many claims as the host keeps for a slot.
pub(crate) const DESTINATIONS_MAX: usize = 4_096;
/// Most nodes that may serve one name, so that a decision stays within its fuel.
pub(crate) const REPLICAS_MAX: usize = 256;

/// By which path a neighbour reaches a destination.
pub(crate) struct Route {
    pub(crate) path: Path,
    /// Not repeated yet since the neighbour began its full state anew.
    pub(crate) stale: bool,
}

/// A node that serves a name.
#[derive(Default)]
pub(crate) struct Destination {
    /// The claim that the host has checked.
    pub(crate) learned: Option<Rc<Claim>>,
    /// The claim that the host is checking. One at a time, because an answer names only its serial.
    asked: Option<Claim>,
    /// Claims to check next, by the neighbour that presented them.
    waiting: Map<NodeId, Claim>,
    /// By neighbour. May name neighbours that are not linked yet, after a handover.
    pub(crate) routes: Map<NodeId, Route>,
}

impl Destination {
    /// Whether a route to it may be used and told at this time.
    pub(crate) fn usable(&self, now: Millis) -> bool {
        self.learned.as_ref().is_some_and(|claim| claim.expires > now)
    }

    /// Hands the next claim to the host, when there is one that would change something.
    fn ask(&mut self) -> Option<Claim> {
        if self.asked.is_some() {
            return None;
        }
        let known = self.learned.as_ref().map(|claim| claim.serial);
        self.waiting.retain(|_, claim| known.is_none_or(|known| claim.serial > known));
        let newest =
            self.waiting.iter().max_by_key(|(_, claim)| claim.serial).map(|(peer, _)| peer.clone())?;
        self.asked = self.waiting.remove(&newest);
        self.asked.clone()
    }

    fn present(&mut self, claim: Claim, from: &NodeId) {
        let news = self.learned.as_ref().is_none_or(|learned| claim.serial > learned.serial);
        if news && self.asked.as_ref() != Some(&claim) {
            self.waiting.insert(from.clone(), claim);
        }
    }
}

/// What a change of the table asks for.
#[derive(Default)]
pub(crate) struct Changes {
    /// Destinations that plans may lead to now and did not, or the other way round.
    pub(crate) planned: Vec<Rc<Key>>,
    /// Destinations of which neighbours may have to be told something else.
    pub(crate) dirty: Vec<Rc<Key>>,
    /// Claims for the host to check.
    pub(crate) learn: Vec<Claim>,
    /// The earliest end of a claim that was learned.
    pub(crate) expires: Option<Millis>,
    /// Lines for the log.
    pub(crate) warnings: Vec<String>,
}

impl Changes {
    /// A destination of which both plans and neighbours depend.
    pub(crate) fn plan(&mut self, key: &Rc<Key>) {
        self.planned.push(key.clone());
        self.dirty.push(key.clone());
    }

    fn expires(&mut self, at: Millis) {
        self.expires = Some(self.expires.map_or(at, |earliest| earliest.min(at)));
    }
}

/// All destinations but those that this node serves.
#[derive(Default)]
pub(crate) struct Table(Map<Rc<Key>, Destination>);

impl Table {
    /// A neighbour's route with the claim that came with it.
    pub(crate) fn route(
        &mut self,
        now: Millis,
        from: &NodeId,
        claim: Claim,
        path: Path,
        changes: &mut Changes,
    ) {
        let key = Rc::new((claim.name.clone(), claim.node.clone()));
        if !self.0.contains_key(&key) {
            if claim.expires <= now {
                return;
            }
            if !self.room_for(&key.0) {
                changes.warnings.push(format!("no room for {} on {}", key.0, key.1));
                return;
            }
        }
        let destination = self.0.entry(key.clone()).or_default();
        let usable = destination.usable(now);
        let before = destination.routes.insert(from.clone(), Route { path: path.clone(), stale: false });
        match before {
            Some(before) if before.path == path => {}
            _ if usable => changes.plan(&key),
            _ => {}
        }
        if claim.expires > now {
            destination.present(claim, from);
            changes.learn.extend(destination.ask());
        }
    }

    /// A neighbour does not reach this any more.
    pub(crate) fn withdraw(&mut self, now: Millis, from: &NodeId, key: Key, changes: &mut Changes) {
        let key = Rc::new(key);
        if let Some(destination) = self.0.get_mut(&key) {
            destination.waiting.remove(from);
            if destination.routes.remove(from).is_some() && destination.usable(now) {
                changes.plan(&key);
            }
        }
    }

    /// Removes a neighbour's routes: all of them, or those that it did not repeat.
    pub(crate) fn forget(&mut self, now: Millis, from: &NodeId, only_stale: bool, changes: &mut Changes) {
        for (key, destination) in &mut self.0 {
            if destination.routes.get(from).is_some_and(|route| route.stale || !only_stale) {
                destination.routes.remove(from);
                destination.waiting.remove(from);
                if destination.usable(now) {
                    changes.plan(key);
                }
            }
        }
    }

    /// A neighbour begins its full state: what it does not repeat until the end is void.
    pub(crate) fn mark_stale(&mut self, from: &NodeId) {
        for destination in self.0.values_mut() {
            if let Some(route) = destination.routes.get_mut(from) {
                route.stale = true;
            }
        }
    }

    /// A neighbour was linked: what is known by it from an earlier instance counts from now on.
    pub(crate) fn linked(&self, now: Millis, peer: &NodeId, changes: &mut Changes) {
        for (key, destination) in &self.0 {
            if destination.routes.contains_key(peer) && destination.usable(now) {
                changes.plan(key);
            }
        }
    }

    /// What the host found about a claim.
    pub(crate) fn learned(&mut self, now: Millis, outcome: LearnOutcome, changes: &mut Changes) {
        let key = Rc::new((outcome.name, outcome.node));
        let Some(destination) = self.0.get_mut(&key) else { return };
        let Some(claim) = destination.asked.take_if(|asked| asked.serial == outcome.serial) else { return };
        let usable = destination.usable(now);
        match outcome.refused {
            None => {
                changes.expires(claim.expires);
                destination.learned = Some(Rc::new(claim));
                changes.dirty.push(key.clone());
            }
            Some(why) => {
                changes.warnings.push(format!("a claim of {} for {} does not hold: {why}", key.1, key.0));
                // Only after a handover can the claim in use be the one that was checked.
                if destination.learned.as_deref() == Some(&claim) {
                    destination.learned = None;
                }
            }
        }
        changes.learn.extend(destination.ask());
        let void = destination.learned.is_none() && destination.asked.is_none();
        if usable != destination.usable(now) {
            changes.plan(&key);
        }
        if void {
            self.0.remove(&key);
        }
    }

    /// Removes what has expired. A renewed claim comes with its route, so nothing is lost.
    pub(crate) fn expire(&mut self, now: Millis, changes: &mut Changes) {
        self.0.retain(|key, destination| {
            if let Some(claim) = &destination.learned {
                if claim.expires > now {
                    changes.expires(claim.expires);
                    return true;
                }
                destination.learned = None;
                changes.plan(key);
            }
            destination.waiting.retain(|_, claim| claim.expires > now);
            changes.learn.extend(destination.ask());
            destination.asked.is_some()
        });
    }

    /// Takes over what an earlier instance knew, until the neighbour says otherwise. The claim counts while it is checked again.
    pub(crate) fn restore(&mut self, now: Millis, claim: Claim, path: Path, changes: &mut Changes) {
        let key = Rc::new((claim.name.clone(), claim.node.clone()));
        if let Some(next) = path.get(1)
            && claim.expires > now
            && self.room_for(&key.0)
        {
            let destination = self.0.entry(key).or_default();
            destination.routes.insert(next.clone(), Route { path: path.clone(), stale: true });
            destination.learned = Some(Rc::new(claim.clone()));
            changes.expires(claim.expires);
            destination.asked = Some(claim.clone());
            changes.learn.push(claim);
        }
    }

    /// The destination of a key.
    pub(crate) fn get(&self, key: &Key) -> Option<&Destination> {
        self.0.get(key)
    }

    /// All destinations of a name, in the order of their nodes.
    pub(crate) fn of_name(&self, name: &str) -> impl Iterator<Item = (&NodeId, &Destination)> {
        let found = self.0.range::<Key, _>((name.to_owned(), String::new())..);
        found.take_while(move |(key, _)| key.0 == name).map(|(key, destination)| (&key.1, destination))
    }

    /// All destinations, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Rc<Key>, &Destination)> {
        self.0.iter()
    }

    /// The first key behind this one.
    pub(crate) fn after(&self, key: Option<&Key>) -> Option<&Rc<Key>> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<Key, _>((from, Bound::Unbounded)).next().map(|(key, _)| key)
    }

    /// Whether there is room for one more destination of this name. When the table is full, those that nobody
    /// reaches have to go: they are kept only to save asking the host again.
    fn room_for(&mut self, name: &str) -> bool {
        if self.0.len() >= DESTINATIONS_MAX {
            self.0.retain(|_, destination| !destination.routes.is_empty() || destination.asked.is_some());
        }
        self.0.len() < DESTINATIONS_MAX && self.of_name(name).take(REPLICAS_MAX).count() < REPLICAS_MAX
    }
}
