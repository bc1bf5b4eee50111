//! What comes from peers: their indexes, rows, and what they know.

use midplane_sdk::sync::{Effect, Loss, Millis, NodeId, Reading};
use midplane_sdk::{Message, codec, log, send, set_timer};

use crate::clock::Stamp;
use crate::table::{Held, Key, Meta, SEEN_MOST, place};
use crate::wire::{self, Heard, Item};
use crate::{AGAIN, AGAIN_MS, KEY_MAX, LastWriterWins, Turn, VALUE_MAX};

impl LastWriterWins {
    /// A message of a peer.
    pub(crate) fn message(&mut self, now: Millis, message: Message, turn: &mut Turn) {
        let Message { peer: id, bytes } = message;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let heard = wire::read(&bytes);
        if !matches!(heard, Ok(Heard::Ack(_))) {
            turn.effects.push(send(&id, wire::ack(bytes.len())));
        }
        turn.from = Some(id.clone());
        match heard {
            Ok(Heard::Ack(bytes)) => peer.acknowledged(bytes),
            Ok(Heard::Index(index)) => {
                peer.hears(&index);
                let (lacks, not_here) = self.table.differences(&index);
                lacks.into_iter().for_each(|key| peer.lacks(key));
                let gone: Vec<_> = not_here
                    .into_iter()
                    .filter(|(key, stamp)| self.datasets.contains(&key.0) && self.known.covers(&key.0, stamp))
                    .cloned()
                    .collect();
                for (key, stamp) in gone {
                    self.removed_once(&id, key, stamp, turn);
                }
            }
            Ok(Heard::Entries(items, error)) => {
                if let Some(error) = error {
                    self.not_taken(&id, &format!("a row that cannot be read: {error}"), false, turn);
                }
                for item in items {
                    self.offered(now, &id, item, turn);
                }
            }
            Ok(Heard::Known(known)) => {
                if known.round == peer.round && !peer.lossy && self.known.learn(&known, &self.datasets) {
                    self.tell_later(&mut turn.effects);
                }
            }
            Err(error) => {
                self.not_taken(&id, &format!("a message that cannot be read: {error}"), false, turn)
            }
        }
    }

    /// A row of a peer: it wins or not.
    fn offered(&mut self, now: Millis, from: &NodeId, item: Item, turn: &mut Turn) {
        if let Err(why) = self.check(&item) {
            return self.not_taken(from, &why, false, turn);
        }
        if self.clock_trusted && item.meta.last().is_ahead_of(now) {
            let (dataset, key) = &item.key;
            let why = format!("{dataset}/{key}, whose time is too far ahead of this node's clock");
            return self.not_taken(from, &why, true, turn);
        }
        let held = Held::new(item.meta.clone(), item.value.as_ref().map(Vec::len));
        if !self.table.has_room(&item.key, &held, self.rows_most, self.bytes_most) {
            return self.not_taken(from, "more than there is room for", false, turn);
        }
        self.clock.observe(item.meta.stamp.time);
        let merged = self.table.compare(&item.key, &held);
        if let Some((loser, winner)) = merged.lost {
            turn.effects.push(Effect::Lost(Loss { place: place(&item.key), loser, winner }));
        }
        if merged.taken {
            self.take(item, held, merged.visible, turn);
        }
    }

    /// Whether the host would keep it.
    fn check(&self, item: &Item) -> Result<(), String> {
        let (dataset, key) = &item.key;
        if !self.datasets.contains(dataset) {
            return Err(format!("dataset {dataset:?}, which this node does not have"));
        }
        if key.is_empty() || key.len() > KEY_MAX || key.chars().any(char::is_control) {
            return Err("a key that no entry can have".into());
        }
        if item.value.as_ref().is_some_and(|value| value.len() > VALUE_MAX)
            || item.meta.seen.len() > SEEN_MOST
            || item.meta.stamp.node.len() > KEY_MAX
            || item.meta.seen.keys().any(|node| node.len() > KEY_MAX)
        {
            return Err(format!("{dataset}/{key}, which is too large"));
        }
        Ok(())
    }

    /// Something of a peer was not taken. When that may change with time, it is asked for again.
    fn not_taken(&mut self, id: &NodeId, what: &str, again: bool, turn: &mut Turn) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.lossy = true;
        if !peer.warned {
            peer.warned = true;
            turn.effects.push(log::warn(format!("{id} sent {what}; what it sends of this sort is left out")));
        }
        peer.again |= again;
        if again && !self.again {
            self.again = true;
            turn.effects.push(set_timer(AGAIN, AGAIN_MS));
        }
    }

    /// A peer has a row that was removed here, and the removal is forgotten: it is made up again.
    fn removed_once(&mut self, from: &NodeId, key: Key, stamp: Stamp, turn: &mut Turn) {
        if stamp.gone {
            return;
        }
        let meta = Meta::followed_by(None, Stamp { gone: true, ..stamp });
        let held = Held::new(meta.clone(), None);
        if self.table.has_room(&key, &held, self.rows_most, self.bytes_most) {
            // To the peer that has it, unlike everything else that a peer says.
            if let Some(peer) = self.peers.get_mut(from) {
                peer.lacks(key.clone());
            }
            self.take(Item { key, value: None, meta }, held, false, turn);
        }
    }

    /// Rows that were read for a peer.
    pub(crate) fn loaded(&mut self, reading: Reading, effects: &mut Vec<Effect>) {
        let mut items = Vec::new();
        for entry in reading.entries {
            let key = (entry.place.dataset, entry.place.key);
            let meta = codec::decode(&entry.meta).ok().or_else(|| Some(self.table.get(&key)?.meta.clone()));
            items.extend(meta.map(|meta| Item { key, value: entry.value, meta }));
        }
        let rest = reading.rest as usize;
        for peer in self.peers.values_mut() {
            if peer.loaded(reading.id, rest, &items, effects) {
                break;
            }
        }
    }
}
