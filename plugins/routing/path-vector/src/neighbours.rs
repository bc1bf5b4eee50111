//! What neighbours have been told, and telling them what changed.
//!
//! News that a path got no shorter waits for [`HOLD_MS`], and all other news leaves at once. Without that pause a
//! destination that is gone is looked for along every path of the network, of which there are more than messages
//! can be sent; with it all stale paths of one length die in one round, and there are no more rounds than [`PATH_MAX`].
//!
//! The work of one call is bounded: what is left is told a moment later. So a change of thousands of destinations
//! neither uses up the fuel of a call nor goes out as one burst, and what changes twice meanwhile is told once.

use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::rc::Rc;

use midplane_sdk::routing::{Claim, Effect, Millis, NodeId};
use midplane_sdk::{Map, Set, send};

use crate::PathVector;
use crate::table::{Key, Path};
use crate::wire::{ASK, BEGIN, Outbox, PATH_MAX, Statement};

/// Most destinations that are looked at for a neighbour in one call. One costs up to some 20,000 units of fuel, and a
/// call has 50 million, of which a long message may need 10.
const WORK_MAX: usize = 1_000;

/// How long news that a path got no shorter waits: longer than a message takes on most links, and short beside
/// what people notice. Calls go on meanwhile: the path that was told may be longer than it says, and still leads there.
pub(crate) const HOLD_MS: Millis = 100;

/// A linked peer that speaks this protocol.
pub(crate) struct Neighbour {
    /// What it was told last of each destination, and has not been told to forget.
    told: Map<Rc<Key>, Told>,
    /// Flags of the next message.
    flags: u8,
    /// The full state that is being told.
    telling: Option<Telling>,
    /// Whether it has begun a full state of its own since it was linked.
    heard: bool,
}

/// How far the full state has been told.
enum Telling {
    /// The names of this node, from behind this one on.
    Served(Option<String>),
    /// All others, from behind this one on.
    Table(Rc<Key>),
}

struct Told {
    serial: u64,
    path: Path,
}

/// What neighbours are to know of a destination.
struct Advert {
    claim: Rc<Claim>,
    path: Path,
}

/// What is being sent, by neighbour.
#[derive(Default)]
struct Boxes(Map<NodeId, Outbox>);

impl Boxes {
    fn of(&mut self, peer: &NodeId) -> &mut Outbox {
        self.0.entry(peer.clone()).or_insert_with(|| Outbox::new(0))
    }
}

impl Neighbour {
    /// A neighbour that knows nothing, and of which nothing is known.
    pub(crate) fn new() -> Self {
        Self { told: Map::new(), flags: BEGIN | ASK, telling: Some(Telling::Served(None)), heard: false }
    }

    /// It begins its full state. When that is not the first time and it asks, it has started anew without the link
    /// going down, and has to be told everything again. An answer does not ask, so two nodes do not ask in turns.
    pub(crate) fn heard_begin(&mut self, asks: bool) {
        if self.heard && asks {
            self.told.clear();
            self.flags = BEGIN;
            self.telling = Some(Telling::Served(None));
        }
        self.heard = true;
    }

    /// Brings it up to date about a destination; false when it has to wait for that.
    fn update(
        &mut self,
        peer: &NodeId,
        key: &Rc<Key>,
        advert: Option<&Advert>,
        waited: bool,
        boxes: &mut Boxes,
    ) -> bool {
        let Some(advert) = advert.filter(|advert| !advert.path.contains(peer)) else {
            if self.told.remove(key).is_some() {
                boxes.of(peer).push(&Statement::Withdraw { name: &key.0, node: &key.1 });
            }
            return true;
        };
        let news = Told { serial: advert.claim.serial, path: advert.path.clone() };
        match self.told.entry(key.clone()) {
            Entry::Vacant(told) => _ = told.insert(news),
            Entry::Occupied(mut told) => {
                let same_path = told.get().path == news.path;
                if same_path && told.get().serial == news.serial {
                    return true;
                }
                if !waited && !same_path && news.path.len() >= told.get().path.len() {
                    return false;
                }
                told.insert(news);
            }
        }
        boxes.of(peer).push(&Statement::Route { claim: &advert.claim, path: &advert.path });
        true
    }
}

impl PathVector {
    /// Tells neighbours what they do not know yet; whether something is left to tell.
    pub(crate) fn tell(&mut self, now: Millis, effects: &mut Vec<Effect>) -> bool {
        let mut work = WORK_MAX;
        let mut boxes = Boxes::default();
        for (peer, neighbour) in &mut self.neighbours {
            if neighbour.flags != 0 {
                boxes.0.insert(peer.clone(), Outbox::new(std::mem::take(&mut neighbour.flags)));
            }
        }
        while work > 0
            && let Some((key, waited)) = self.dirty.pop_first()
        {
            let advert = self.advert(now, &key);
            for (peer, neighbour) in &mut self.neighbours {
                if !neighbour.update(peer, &key, advert.as_ref(), waited, &mut boxes) {
                    self.held.insert(key.clone());
                }
            }
            work = work.saturating_sub(1 + self.neighbours.len());
        }
        let telling = self.neighbours.iter().filter(|(_, neighbour)| neighbour.telling.is_some());
        let mut told = Set::new();
        for peer in telling.map(|(peer, _)| peer.clone()).collect::<Vec<_>>() {
            if self.tell_full(now, &peer, &mut work, &mut boxes) {
                told.insert(peer);
            }
        }
        for (peer, outbox) in boxes.0 {
            let messages = outbox.finish(told.contains(&peer));
            effects.extend(messages.into_iter().map(|message| send(peer.clone(), message)));
        }
        !self.dirty.is_empty() || self.neighbours.values().any(|neighbour| neighbour.telling.is_some())
    }

    /// Goes on with a neighbour's full state; whether it is complete.
    fn tell_full(&mut self, now: Millis, peer: &NodeId, work: &mut usize, boxes: &mut Boxes) -> bool {
        while *work > 0 {
            *work -= 1;
            let Some(telling) = self.neighbours.get_mut(peer).and_then(|neighbour| neighbour.telling.take())
            else {
                return false;
            };
            let Some((key, telling)) = self.following(telling) else {
                boxes.of(peer);
                return true;
            };
            let advert = self.advert(now, &key);
            if let Some(neighbour) = self.neighbours.get_mut(peer) {
                neighbour.telling = Some(telling);
                // It waits for its first full state, so nothing is held back.
                neighbour.update(peer, &key, advert.as_ref(), true, boxes);
            }
        }
        false
    }

    /// The next destination of a full state: first those of this node, then the others.
    fn following(&self, telling: Telling) -> Option<(Rc<Key>, Telling)> {
        let last = match telling {
            Telling::Served(last) => {
                let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                if let Some((name, _)) = self.served.range::<String, _>((from, Bound::Unbounded)).next() {
                    return Some((self.own(name), Telling::Served(Some(name.clone()))));
                }
                None
            }
            Telling::Table(last) => Some(last),
        };
        let key = self.table.after(last.as_deref())?;
        Some((key.clone(), Telling::Table(key.clone())))
    }

    /// What there is to tell of a destination: nothing when it is not reached, or too far away.
    fn advert(&self, now: Millis, key: &Key) -> Option<Advert> {
        let (claim, path) = if key.1 == self.node {
            (self.served.get(&key.0)?, &self.own_path)
        } else {
            let destination = self.table.get(key)?;
            (destination.learned.as_ref()?, self.best(destination)?)
        };
        (claim.expires > now && path.len() <= PATH_MAX)
            .then(|| Advert { claim: claim.clone(), path: path.clone() })
    }
}
