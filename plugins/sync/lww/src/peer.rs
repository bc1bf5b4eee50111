//! What one peer has been sent, and what it has yet to be sent.

use midplane_sdk::sync::{Effect, Request};
use midplane_sdk::{NodeId, Set, send};

use crate::table::{Key, Table, place};
use crate::wire::{self, Index, Item};

/// Bytes on the way to one peer that it has not acknowledged. With the rows of one `load` it is half of what a channel holds.
const WINDOW: usize = 256 << 10;
/// Bytes of values that are read at a time.
const LOAD_BYTES: usize = 128 << 10;
/// Rows that are read at a time.
const LOAD_ROWS: usize = 256;

/// A peer that syncs as well.
pub(crate) struct Peer {
    id: NodeId,
    /// Which of this node's indexes it is being sent, and where that stands.
    pub(crate) round: u32,
    cursor: Cursor,
    /// The round of its index that was heard to the end.
    pub(crate) heard: Option<u32>,
    dirty: Set<Key>,
    /// Its datasets, once it has said which.
    datasets: Set<String>,
    /// The request that is being read for it, and what was asked for.
    loading: Option<(u64, Vec<Key>)>,
    unacked: usize,
    /// Something that it sent in this round was not taken, so what it says it sent is not what this node has.
    pub(crate) lossy: bool,
    /// Of that, something that may be taken later.
    pub(crate) again: bool,
    /// Whether it is to be told what this node knows as soon as it has everything.
    pub(crate) tell: bool,
    /// Whether the log has said already that something of it was not taken.
    pub(crate) warned: bool,
}

enum Cursor {
    After(Option<Key>),
    Done,
}

impl Peer {
    /// A peer of which nothing is known.
    pub(crate) fn new(id: NodeId) -> Self {
        Self {
            id,
            round: 1,
            cursor: Cursor::After(None),
            heard: None,
            dirty: Set::new(),
            datasets: Set::new(),
            loading: None,
            unacked: 0,
            lossy: false,
            again: false,
            tell: true,
            warned: false,
        }
    }

    /// Begins to send the index anew, so that what was not taken is sent again.
    pub(crate) fn start_over(&mut self) {
        self.round += 1;
        self.cursor = Cursor::After(None);
        (self.lossy, self.again) = (false, false);
    }

    /// A piece of its index.
    pub(crate) fn hears(&mut self, index: &Index) {
        self.datasets = index.datasets.iter().cloned().collect();
        if index.upto.is_none() {
            self.heard = Some(index.round);
            self.tell = true;
        }
    }

    /// A row that it has to be sent, if it is of a dataset that it has.
    pub(crate) fn lacks(&mut self, key: Key) {
        if self.datasets.contains(&key.0) {
            self.dirty.insert(key);
        }
    }

    /// Whether this row is still to be sent.
    pub(crate) fn waits_for(&self, key: &Key) -> bool {
        self.dirty.contains(key)
    }

    /// Whether all that this node has was sent to it, in answer to all that it said to have.
    pub(crate) fn has_everything(&self) -> bool {
        self.heard.is_some() && self.dirty.is_empty() && self.loading.is_none()
    }

    pub(crate) fn acknowledged(&mut self, bytes: u32) {
        self.unacked = self.unacked.saturating_sub(bytes as usize);
    }

    /// Sends rows whose values are at hand, or remembers to send them when there is room.
    pub(crate) fn offer(&mut self, items: &[Item], effects: &mut Vec<Effect>) {
        // Until its index begins it is not known which datasets it has; when it does, it shows what it lacks.
        let items: Vec<&Item> = items.iter().filter(|item| self.datasets.contains(&item.key.0)).collect();
        let idle = matches!(self.cursor, Cursor::Done) && self.dirty.is_empty() && self.loading.is_none();
        if idle && self.unacked < WINDOW {
            for message in wire::entries(items) {
                self.send(message, effects);
            }
        } else {
            self.dirty.extend(items.into_iter().map(|item| item.key.clone()));
        }
    }

    /// Sends the rows that were read for it. Answers whether the request was this peer's.
    pub(crate) fn loaded(&mut self, id: u64, rest: usize, items: &[Item], effects: &mut Vec<Effect>) -> bool {
        let Some((_, asked)) = self.loading.take_if(|(loading, _)| *loading == id) else { return false };
        self.dirty.extend(asked.into_iter().rev().take(rest));
        for message in wire::entries(items) {
            self.send(message, effects);
        }
        true
    }

    pub(crate) fn send(&mut self, message: Vec<u8>, effects: &mut Vec<Effect>) {
        self.unacked += message.len();
        effects.push(send(&self.id, message));
    }

    /// Goes on with the index, then with the rows, as far as there is room. `next` is the id of a request to read.
    pub(crate) fn go_on(
        &mut self,
        table: &Table,
        datasets: &[String],
        next: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        while self.unacked < WINDOW
            && let Cursor::After(after) = &mut self.cursor
        {
            let index = table.index(self.round, datasets, after.take());
            self.cursor = match &index.upto {
                Some(upto) => Cursor::After(Some(upto.clone())),
                None => Cursor::Done,
            };
            self.send(wire::index(&index), effects);
        }
        if self.unacked >= WINDOW || self.loading.is_some() {
            return;
        }
        let (mut keys, mut bytes) = (Vec::new(), 0);
        while keys.len() < LOAD_ROWS
            && bytes < LOAD_BYTES
            && let Some(key) = self.dirty.pop_first()
        {
            // What is not there any more was a removal that everybody had time to hear of.
            let Some(held) = table.get(&key) else { continue };
            bytes += held.length.unwrap_or(0);
            keys.push(key);
        }
        if !keys.is_empty() {
            *next += 1;
            let places = keys.iter().map(place).collect();
            effects.push(Effect::Load(Request { id: *next, places }));
            self.loading = Some((*next, keys));
        }
    }
}
