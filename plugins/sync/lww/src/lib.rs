//! The last writer wins.
//!
//! Each entry carries the stamp of its last write, a hybrid logical time and the writer's id; the greater stamp wins, the same
//! on all nodes. On a new link both sides send an index of their stamps, and what the other one lacks or has older; from then on each
//! change, to all peers but the one that it came from. A peer is never sent more than it acknowledges.
//!
//! **Conflicts.** A write carries whom its writer had seen write the entry. A value that gives way to one whose writer had not seen it
//! is lost, and counted where the two meet.
//!
//! **Removals** are rows without a value. They are forgotten after `keep-removed`, which needs no agreement: for each dataset and
//! writer a node knows up to which time it has everything, because a peer that has sent it all it had says so. An entry that a peer shows,
//! that this node does not have, and that lies within what it knows, was removed here; the removal is made up again for that peer. An
//! entry beyond what it knows is new. So a node may be away for longer than removals are kept, and neither brings back what was
//! removed nor loses what it wrote. What is known is saved each minute, so `keep-removed` must be longer than that.
//!
//! Config: `keep-removed`, how long removals are kept at least: a number and `s`, `min`, `h` or `d`, from `"2min"`. Default `"7d"`.
//!
//! The slot's protocol in the manifest must be `lww/1`.

mod clock;
mod exchange;
mod known;
mod peer;
mod table;
mod wire;

#[cfg(test)]
mod simulation;

use midplane_sdk::serde::Deserialize;
use midplane_sdk::sync::*;
use midplane_sdk::{Link, Map, Trust, log, set_timer};

use clock::{Clock, Stamp, Time};
use known::Knowledge;
use peer::Peer;
use table::{Held, Key, Meta, Table, place};
use wire::{Item, Known};

/// Timer for telling peers what is known.
const TELL: u64 = 1;
/// Timer for forgetting removals.
const FORGET: u64 = 2;
/// Timer for asking again for what came from a clock that is ahead.
const AGAIN: u64 = 3;
/// How often peers are told what is known. It matters only to who is away for longer than removals are kept.
const TELL_MS: Millis = 10_000;
/// Longest pause between two looks for old removals.
const FORGET_MOST_MS: Millis = 3_600_000;
/// Removals that are forgotten in one event.
const FORGET_AT_ONCE: usize = 1_024;
/// Pause before what was too far ahead is asked for again.
const AGAIN_MS: Millis = 60_000;
/// Least time for which removals are kept: twice the time between two saves.
const KEEP_LEAST_MS: Millis = 120_000;
/// Limits of the host: what exceeds them is not taken from a peer, because the host would end the policy for it.
const KEY_MAX: usize = 256;
const VALUE_MAX: usize = 32 << 10;
/// Version of the saved state.
const VERSION: &str = "1";

#[derive(Deserialize)]
#[serde(crate = "midplane_sdk::serde", default, deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    keep_removed: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { keep_removed: "7d".into() }
    }
}

/// What comes of one event.
#[derive(Default)]
struct Turn {
    effects: Vec<Effect>,
    /// Rows that are new, for the host and for all peers but the one that they came from.
    fresh: Vec<Item>,
    from: Option<NodeId>,
    /// What readers see otherwise now.
    changed: Vec<Place>,
}

/// The policy.
pub struct LastWriterWins {
    node: NodeId,
    slot: String,
    clock_trusted: bool,
    keep_removed: Millis,
    datasets: Vec<String>,
    rows_most: u64,
    bytes_most: u64,
    clock: Clock,
    table: Table,
    known: Knowledge,
    peers: Map<NodeId, Peer>,
    /// Requests to read so far.
    loads: u64,
    /// Whether the timers [`TELL`] and [`AGAIN`] are set.
    telling: bool,
    again: bool,
}

impl Policy for LastWriterWins {
    fn init(setup: Setup) -> Result<(Self, Vec<Effect>), String> {
        let config: Config = setup.config()?;
        let keep_removed =
            milliseconds(&config.keep_removed).filter(|keep| *keep >= KEEP_LEAST_MS).ok_or_else(|| {
                format!("config: keep-removed is a time from 2min, such as 7d, not {:?}", config.keep_removed)
            })?;
        let (last, known): (Time, Knowledge) = setup.handed_over(VERSION).unwrap_or_default();
        let policy = Self {
            node: setup.node,
            slot: setup.slot,
            clock_trusted: setup.clock_trusted,
            keep_removed,
            datasets: Vec::new(),
            rows_most: 0,
            bytes_most: 0,
            clock: Clock::after(last),
            table: Table::default(),
            known,
            peers: Map::new(),
            loads: 0,
            telling: false,
            again: false,
        };
        let mut effects = vec![set_timer(FORGET, policy.forget_pause())];
        if !policy.clock_trusted {
            effects.push(log::warn(
                "the clock of this node is not set: what is written here may lose against older writes",
            ));
        }
        Ok((policy, effects))
    }

    fn handle(&mut self, now: Millis, event: Event) -> Vec<Effect> {
        let mut turn = Turn::default();
        let effects = &mut turn.effects;
        match event {
            Event::Begin(beginning) => {
                self.known.retain(&beginning.datasets);
                self.datasets = beginning.datasets;
                (self.rows_most, self.bytes_most) = (beginning.rows_most, beginning.bytes_most);
            }
            Event::Stored(heads) => self.stored(heads),
            Event::Asked(ask) => self.asked(now, ask, &mut turn),
            Event::Loaded(reading) => self.loaded(reading, effects),
            Event::Base(BaseEvent::LinkUp(link)) => {
                self.peers.remove(&link.peer);
                self.linked(link, effects);
            }
            Event::Base(BaseEvent::LinkChanged(link)) => {
                if self.speaks(&link).is_err() || !self.peers.contains_key(&link.peer) {
                    self.peers.remove(&link.peer);
                    self.linked(link, effects);
                }
            }
            Event::Base(BaseEvent::LinkDown(peer)) => drop(self.peers.remove(&peer)),
            Event::Base(BaseEvent::Message(message)) => self.message(now, message, &mut turn),
            Event::Base(BaseEvent::Timer(TELL)) => {
                self.telling = false;
                self.peers.values_mut().for_each(|peer| peer.tell = true);
            }
            Event::Base(BaseEvent::Timer(FORGET)) => self.forget(now, effects),
            Event::Base(BaseEvent::Timer(AGAIN)) => {
                self.again = false;
                self.peers.values_mut().filter(|peer| peer.again).for_each(Peer::start_over);
            }
            Event::Base(BaseEvent::Timer(_)) => {}
        }
        self.carry_out(turn)
    }

    fn save(&self) -> State {
        State::of(VERSION, &(self.clock.last(), &self.known))
    }
}

impl LastWriterWins {
    fn stored(&mut self, heads: Vec<Head>) {
        for head in heads {
            let dataset = head.place.dataset.clone();
            let stamp = self.table.stored(head, &self.node);
            self.clock.observe(stamp.time);
            // Nothing of its own is missing, whenever the state was saved.
            if stamp.node == self.node && !stamp.gone {
                self.known.wrote(&dataset, &self.node, stamp.time);
            }
        }
    }

    /// Somebody on this node wants an entry to be other than it is.
    fn asked(&mut self, now: Millis, ask: Ask, turn: &mut Turn) {
        let key = (ask.place.dataset, ask.place.key);
        let stamp = Stamp { time: self.clock.tick(now), node: self.node.clone(), gone: false };
        let value = match ask.wish {
            Wish::Put(value) => Some(value),
            Wish::Remove => None,
        };
        let meta = Meta::followed_by(self.table.get(&key).map(|held| &held.meta), stamp.clone());
        let held = Held::new(meta.clone(), value.as_ref().map(Vec::len));
        if value.is_some() && !self.table.has_room(&key, &held, self.rows_most, self.bytes_most) {
            let reason = format!(
                "the datasets of {} are full: {} rows, {} bytes at most",
                self.slot, self.rows_most, self.bytes_most
            );
            return turn.effects.push(Effect::Refused(Refusal { id: ask.id, reason }));
        }
        self.known.wrote(&key.0, &self.node, stamp.time);
        self.take(Item { key, value, meta }, held, true, turn);
        turn.effects.push(Effect::Accepted(ask.id));
    }

    /// Keeps a row that won.
    fn take(&mut self, item: Item, held: Held, visible: bool, turn: &mut Turn) {
        self.table.take(&item.key, held);
        if visible {
            turn.changed.push(place(&item.key));
        }
        turn.fresh.push(item);
    }

    fn linked(&mut self, link: Link, effects: &mut Vec<Effect>) {
        match self.speaks(&link) {
            Ok(()) => drop(self.peers.insert(link.peer.clone(), Peer::new(link.peer))),
            Err(Some(why)) => effects.push(log::warn(why)),
            Err(None) => {}
        }
    }

    /// Whether entries are exchanged with this peer, and otherwise why not when an operator should know.
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

    /// Forgets removals that are old and that no peer waits for.
    fn forget(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let old = |held: &Held| {
            held.length.is_none() && held.meta.stamp.time.0.saturating_add(self.keep_removed) < now
        };
        let waits = |key: &Key| self.peers.values().any(|peer| peer.waits_for(key));
        let forgotten: Vec<Key> = self
            .table
            .iter()
            .filter(|(key, held)| old(held) && !waits(key))
            .map(|(key, _)| key.clone())
            .take(FORGET_AT_ONCE)
            .collect();
        for key in &forgotten {
            self.table.remove(key);
            effects.push(Effect::Remove(place(key)));
        }
        let pause = if forgotten.len() == FORGET_AT_ONCE { 1 } else { self.forget_pause() };
        effects.push(set_timer(FORGET, pause));
    }

    fn forget_pause(&self) -> Millis {
        (self.keep_removed / 4).min(FORGET_MOST_MS)
    }

    fn tell_later(&mut self, effects: &mut Vec<Effect>) {
        if !self.telling {
            self.telling = true;
            effects.push(set_timer(TELL, TELL_MS));
        }
    }

    /// Passes on what is new, has it kept, and sends every peer what there is room for.
    fn carry_out(&mut self, turn: Turn) -> Vec<Effect> {
        let Turn { mut effects, fresh, from, changed } = turn;
        for (_, peer) in self.peers.iter_mut().filter(|(id, _)| Some(*id) != from.as_ref()) {
            peer.offer(&fresh, &mut effects);
        }
        let put = |item: Item| {
            let meta = item.meta.encode();
            Effect::Put(Entry { place: place(&item.key), value: item.value, meta })
        };
        effects.extend(fresh.into_iter().map(put));
        if !changed.is_empty() {
            effects.push(Effect::Changed(changed));
        }
        self.go_on(&mut effects);
        effects
    }

    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        if self.known.take_changed() {
            self.tell_later(effects);
        }
        for peer in self.peers.values_mut() {
            peer.go_on(&self.table, &self.datasets, &mut self.loads, effects);
            if let (Some(round), true, true) = (peer.heard, peer.tell, peer.has_everything()) {
                peer.tell = false;
                for times in self.known.pieces() {
                    peer.send(wire::known(&Known { round, times }), effects);
                }
            }
        }
    }
}

/// A length of time such as `7d`.
fn milliseconds(text: &str) -> Option<Millis> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit: Millis = match unit {
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<Millis>().ok()?.checked_mul(unit)
}

midplane_sdk::export_sync!(LastWriterWins);
