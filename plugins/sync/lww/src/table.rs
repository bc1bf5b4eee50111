//! The heads of all rows, and which of two writers wins.

use std::ops::Bound;

use midplane_sdk::serde::{Deserialize, Serialize};
use midplane_sdk::sync::{Head, Place};
use midplane_sdk::{Map, NodeId, codec};

use crate::clock::{Stamp, Time};
use crate::wire::{Index, PIECE};

/// Dataset and key.
pub(crate) type Key = (String, String);

/// Writers of one entry that it remembers. The eldest is forgotten first; then a conflict may be counted that was none.
pub(crate) const SEEN_MOST: usize = 16;
/// Lost values that a row remembers to have counted.
const LOST_MOST: usize = 8;
/// Bytes of an index's row besides its texts, at most.
const ROW_BYTES: usize = 24;

/// What is kept with each value, and is the same on all nodes that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) struct Meta {
    pub(crate) stamp: Stamp,
    /// What its writer knew of this entry: the last time of each earlier writer.
    pub(crate) seen: Map<NodeId, Time>,
}

impl Meta {
    /// What a node writes that knows this.
    pub(crate) fn followed_by(before: Option<&Self>, stamp: Stamp) -> Self {
        let mut seen = Map::new();
        if let Some(before) = before {
            seen = before.seen.clone();
            seen.insert(before.stamp.node.clone(), before.stamp.time);
        }
        while seen.len() > SEEN_MOST {
            let eldest = seen.iter().min_by_key(|(_, time)| **time).map(|(node, _)| node.clone());
            eldest.and_then(|node| seen.remove(&node));
        }
        Self { stamp, seen }
    }

    /// Whether its writer knew of the other one, so that it replaces it and is not in conflict with it.
    pub(crate) fn knows(&self, other: &Stamp) -> bool {
        self.stamp.node == other.node && self.stamp.time >= other.time
            || self.seen.get(&other.node).is_some_and(|seen| *seen >= other.time)
    }

    /// Its stamp, with the latest of all times in it.
    pub(crate) fn last(&self) -> Stamp {
        let time = self.seen.values().copied().max().unwrap_or_default().max(self.stamp.time);
        Stamp { time, ..self.stamp.clone() }
    }

    /// The host's form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// The head of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) meta: Meta,
    /// Bytes of the value; none for a removal.
    pub(crate) length: Option<usize>,
    /// What was counted as lost to it.
    lost: Vec<Stamp>,
}

impl Held {
    pub(crate) fn new(meta: Meta, length: Option<usize>) -> Self {
        Self { meta, length, lost: Vec::new() }
    }
}

/// What became of a row that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// It is the row now.
    pub(crate) taken: bool,
    /// Whether readers see something else now.
    pub(crate) visible: bool,
    /// Who lost to whom without having been known, when that was not counted before.
    pub(crate) lost: Option<(NodeId, NodeId)>,
}

/// All heads, in order.
#[derive(Default)]
pub(crate) struct Table {
    rows: Map<Key, Held>,
    bytes: u64,
}

impl Table {
    pub(crate) fn get(&self, key: &Key) -> Option<&Held> {
        self.rows.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Held)> {
        self.rows.iter()
    }

    /// A row that the host has. What another strategy left behind counts as older than everything, and as written here.
    pub(crate) fn stored(&mut self, head: Head, own: &NodeId) -> Stamp {
        let unknown = || Meta::followed_by(None, Stamp { time: (0, 0), node: own.clone(), gone: false });
        let meta = codec::decode(&head.meta).unwrap_or_else(|_| unknown());
        let stamp = meta.stamp.clone();
        let held = Held::new(meta, head.length.map(|length| length as usize));
        self.set((head.place.dataset, head.place.key), held);
        stamp
    }

    /// Puts a row in its place.
    pub(crate) fn set(&mut self, key: Key, held: Held) {
        self.bytes += size(&key, &held);
        if let Some(before) = self.rows.insert(key.clone(), held) {
            self.bytes -= size(&key, &before);
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(before) = self.rows.remove(key) {
            self.bytes -= size(key, &before);
        }
    }

    /// Whether a row can be put without exceeding what the host allows.
    pub(crate) fn has_room(&self, key: &Key, held: &Held, rows_most: u64, bytes_most: u64) -> bool {
        let before = self.rows.get(key);
        let rows = self.rows.len() as u64 + u64::from(before.is_none());
        let bytes = self.bytes + size(key, held) - before.map_or(0, |before| size(key, before));
        rows <= rows_most && bytes <= bytes_most
    }

    /// Whether what is offered wins, and whether something is lost by that. Does not change the row.
    pub(crate) fn compare(&mut self, key: &Key, offered: &Held) -> Merged {
        let Some(held) = self.rows.get_mut(key) else {
            return Merged { taken: true, visible: offered.length.is_some(), lost: None };
        };
        let (ours, theirs) = (&held.meta.stamp, &offered.meta.stamp);
        if ours == theirs {
            return Merged { taken: false, visible: false, lost: None };
        }
        let taken = theirs > ours;
        let (winner, loser) = if taken { (&offered.meta, ours) } else { (&held.meta, theirs) };
        let mut lost = None;
        if !winner.knows(loser) && !held.lost.contains(loser) {
            lost = Some((loser.node.clone(), winner.stamp.node.clone()));
            let loser = loser.clone();
            held.lost.truncate(LOST_MOST - 1);
            held.lost.insert(0, loser);
        }
        Merged { taken, visible: taken && (held.length.is_some() || offered.length.is_some()), lost }
    }

    /// Puts what won in its place, with the memory of what was lost.
    pub(crate) fn take(&mut self, key: &Key, offered: Held) {
        let lost = self.rows.get_mut(key).map(|held| std::mem::take(&mut held.lost)).unwrap_or_default();
        self.set(key.clone(), Held { lost, ..offered });
    }

    /// A piece of the index after this key.
    pub(crate) fn index(&self, round: u32, datasets: &[String], after: Option<Key>) -> Index {
        let from = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut range = self.rows.range((from, Bound::Unbounded));
        let mut upto = None;
        for (key, held) in range.by_ref() {
            rows.push((key.clone(), held.meta.stamp.clone()));
            bytes += key.0.len() + key.1.len() + held.meta.stamp.node.len() + ROW_BYTES;
            if bytes >= PIECE {
                upto = Some(key.clone());
                break;
            }
        }
        if range.next().is_none() {
            upto = None;
        }
        Index { round, datasets: datasets.to_vec(), after, upto, rows }
    }

    /// Which rows a peer with this index lacks or has older, and which of its rows are not here.
    pub(crate) fn differences<'a>(&self, index: &'a Index) -> (Vec<Key>, Vec<&'a (Key, Stamp)>) {
        let theirs: Map<&Key, &Stamp> = index.rows.iter().map(|(key, stamp)| (key, stamp)).collect();
        let from = index.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let to = index.upto.clone().map_or(Bound::Unbounded, Bound::Included);
        let is_range = match (&index.after, &index.upto) {
            (Some(after), Some(upto)) => after < upto,
            _ => true,
        };
        let mut lacks = Vec::new();
        if is_range {
            for (key, held) in self.rows.range((from, to)) {
                if theirs.get(key).is_none_or(|theirs| **theirs < held.meta.stamp) {
                    lacks.push(key.clone());
                }
            }
        }
        (lacks, index.rows.iter().filter(|(key, _)| !self.rows.contains_key(key)).collect())
    }
}

/// The place of a key.
pub(crate) fn place(key: &Key) -> Place {
    Place { dataset: key.0.clone(), key: key.1.clone() }
}

fn size(key: &Key, held: &Held) -> u64 {
    // What the host counts, and never less: a row's metadata are a stamp and what was seen.
    let meta = 96 + held.meta.seen.len() * 80;
    (key.1.len() + held.length.unwrap_or(0) + meta) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(time: u64, node: &str) -> Stamp {
        Stamp { time: (time, 0), node: node.into(), gone: false }
    }

    fn held(before: Option<&Meta>, time: u64, node: &str) -> Held {
        Held::new(Meta::followed_by(before, stamp(time, node)), Some(1))
    }

    fn key() -> Key {
        ("d".into(), "k".into())
    }

    #[test]
    fn the_later_one_wins_and_only_what_was_not_known_is_lost() {
        let lost = |loser: &str, winner: &str| Some((loser.to_owned(), winner.to_owned()));
        let first = held(None, 1, "a");
        let second = held(Some(&first.meta), 2, "b");
        let third = held(Some(&second.meta), 3, "b");
        let other = held(Some(&first.meta), 2, "c");
        for (ours, theirs, taken, expect) in [
            (&first, &second, true, None),
            (&first, &third, true, None),
            (&second, &first, false, None),
            (&third, &second, false, None),
            (&second, &second, false, None),
            (&second, &other, true, lost("b", "c")),
            (&other, &second, false, lost("b", "c")),
            (&other, &third, true, lost("c", "b")),
            (&third, &other, false, lost("c", "b")),
        ] {
            let mut table = Table::default();
            table.set(key(), ours.clone());
            let merged = table.compare(&key(), theirs);
            assert_eq!((merged.taken, merged.lost), (taken, expect), "{ours:?} and {theirs:?}");
            // The loser may come once more, from another peer: it is not counted again.
            if taken {
                table.take(&key(), theirs.clone());
                assert_eq!(table.compare(&key(), ours).lost, None);
            } else {
                assert_eq!(table.compare(&key(), theirs).lost, None);
            }
        }
    }

    #[test]
    fn writers_of_one_entry_are_remembered_up_to_a_limit() {
        let mut meta = Meta::followed_by(None, stamp(0, "n0"));
        for n in 1..40 {
            meta = Meta::followed_by(Some(&meta), stamp(n, &format!("n{n}")));
        }
        assert_eq!(meta.seen.len(), SEEN_MOST);
        assert!(meta.knows(&stamp(38, "n38")) && !meta.knows(&stamp(1, "n1")));
        // As large as it can be it fits into what the host takes.
        assert!(meta.encode().len() + SEEN_MOST * 52 < 16 << 10);
    }

    #[test]
    fn pieces_of_an_index_cover_everything_once() {
        let mut table = Table::default();
        for n in 0..2_000 {
            table.set(("d".into(), format!("{n:0>60}")), held(None, n + 1, &"x".repeat(52)));
        }
        let (mut after, mut rows, mut pieces) = (None, Vec::new(), 0);
        loop {
            let index = table.index(1, &["d".into()], after.clone());
            assert!(crate::wire::index(&index).len() < 60 << 10);
            assert_eq!(table.differences(&index), (vec![], vec![]));
            rows.extend(index.rows);
            pieces += 1;
            after = index.upto;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((rows.len(), pieces), (2_000, 9));
        assert!(rows.is_sorted());
    }

    #[test]
    fn differences_are_what_one_side_lacks_or_has_older() {
        let mut table = Table::default();
        let key = |key: &str| ("d".to_owned(), key.to_owned());
        for (name, time) in [("a", 5), ("b", 5), ("c", 5), ("z", 5)] {
            table.set(key(name), held(None, time, "n"));
        }
        let rows = vec![(key("a"), stamp(5, "n")), (key("b"), stamp(4, "n")), (key("bb"), stamp(1, "m"))];
        let index =
            Index { round: 1, datasets: vec![], after: None, upto: Some(key("c")), rows: rows.clone() };
        let (lacks, ours_not) = table.differences(&index);
        assert_eq!(lacks, [key("b"), key("c")]);
        assert_eq!(ours_not, [&rows[2]]);
        // A range that a hostile peer made up has nothing in it.
        let index =
            Index { round: 1, datasets: vec![], after: Some(key("z")), upto: Some(key("a")), rows: vec![] };
        assert_eq!(table.differences(&index), (vec![], vec![]));
    }
}
