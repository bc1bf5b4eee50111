//! The hash tree of a blob, and what it proves: any part of a blob by itself, before the rest is there.
//!
//! BLAKE3 hashes 1 KiB chunks and merges them two by two. The tree is kept down to groups of chunks; the form on the wire is that of
//! [bao](https://github.com/oconnor663/bao/blob/master/docs/spec.md), whose geometry comes from `bao-tree`.

use std::fs::File;
use std::ops::Range;

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::iter::{BaoChunk, ResponseIter};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::words::Digest;
use crate::words::objects::BlobRef;

/// Chunks of one group, as a power of two.
const GROUP_LOG: u8 = 5;
/// Bytes of one group: the least that can be verified. 32 KiB fit into one frame with the hashes that prove them, hash at full speed,
/// and leave a tree of 1/512 of the blob.
pub const GROUP: usize = 1024 << GROUP_LOG;
/// Bytes of one node of the tree: the hashes of its two sides.
pub const PAIR: usize = 64;

/// The two sides of a node.
pub type Pair = [u8; PAIR];

/// Where the nodes of a blob of this length are.
fn geometry(length: u64) -> BaoTree {
    BaoTree::new(length, BlockSize::from_chunk_log(GROUP_LOG))
}

/// Bytes of the tree of a blob of this length; none where one group is all.
pub fn tree_length(length: u64) -> u64 {
    geometry(length).outboard_size()
}

/// The ranges of a blob's bytes that a tree, which may have holes, proves.
///
/// # Errors
/// What reading says.
pub fn valid(blob: &BlobRef, tree: &File, data: &File) -> std::io::Result<Vec<Range<u64>>> {
    let outboard =
        PreOrderOutboard { root: (*blob.digest.as_bytes()).into(), tree: geometry(blob.length), data: tree };
    let all = ChunkRanges::all();
    let ranges = bao_tree::io::sync::valid_ranges(outboard, data, &all).into_iter();
    ranges.map(|range| range.map(|range| range.start.0 * 1024..range.end.0.saturating_mul(1024))).collect()
}

/// Grows the tree of bytes that come one after the other.
pub struct Grower {
    groups: Vec<ChainingValue>,
    group: Hasher,
    filled: usize,
    length: u64,
}

impl Default for Grower {
    fn default() -> Self {
        Self { groups: Vec::new(), group: Hasher::new(), filled: 0, length: 0 }
    }
}

impl Grower {
    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            // Only now is it known that the group before is not the whole blob.
            if self.filled == GROUP {
                self.groups.push(self.group.finalize_non_root());
                self.group = Hasher::new();
                self.group.set_input_offset(self.groups.len() as u64 * GROUP as u64);
                self.filled = 0;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(GROUP - self.filled));
            self.group.update(now);
            self.filled += now.len();
            bytes = rest;
        }
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest, and the tree: pairs in pre-order.
    pub fn finish(mut self) -> (Digest, Vec<u8>) {
        if self.groups.is_empty() {
            return ((*self.group.finalize().as_bytes()).into(), Vec::new());
        }
        self.groups.push(self.group.finalize_non_root());
        let geometry = geometry(self.length);
        let mut tree = vec![0; usize::try_from(geometry.outboard_size()).unwrap_or(0)];
        let mut groups = self.groups.into_iter();
        let mut stack: Vec<ChainingValue> = Vec::new();
        for step in geometry.post_order_chunks_iter() {
            match step {
                BaoChunk::Leaf { .. } => stack.extend(groups.next()),
                BaoChunk::Parent { node, is_root, .. } => {
                    let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else { break };
                    let place = geometry.pre_order_offset(node).map_or(usize::MAX, |at| at as usize * PAIR);
                    if let Some(place) = tree.get_mut(place..place.saturating_add(PAIR)) {
                        place.copy_from_slice(&pair(&left, &right));
                    }
                    stack.push(merge(&left, &right, is_root));
                }
            }
        }
        (stack.pop().unwrap_or_default().into(), tree)
    }
}

fn pair(left: &ChainingValue, right: &ChainingValue) -> Pair {
    std::array::from_fn(|at| *if at < 32 { left.get(at) } else { right.get(at - 32) }.unwrap_or(&0))
}

fn merge(left: &ChainingValue, right: &ChainingValue, is_root: bool) -> ChainingValue {
    if is_root {
        *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

/// Why a piece was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<E> {
    /// It is not a piece of this blob.
    Wrong,
    /// It could not be kept.
    Failed(E),
}

/// What comes next of a range of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The node of the tree at this byte of it; [`Walk::pair`] takes it.
    Pair(u64),
    /// The group at this byte of the blob, with its length; [`Walk::group`] takes it.
    Group(u64, usize),
}

/// Walks through a range of a blob, pairs before what they prove, and verifies each step against the digest.
pub struct Walk {
    geometry: BaoTree,
    steps: ResponseIter,
    next: Option<BaoChunk>,
    proved: Vec<ChainingValue>,
}

impl Walk {
    /// A range of bytes, widened to whole groups. One that begins behind the end is the last group, which proves where that is.
    pub fn new(digest: &Digest, length: u64, range: Range<u64>) -> Self {
        let geometry = geometry(length);
        let group = GROUP as u64;
        let start = range.start.min(length.saturating_sub(1));
        let start = ChunkNum(start / group * group / 1024);
        let end = range.end.min(length).div_ceil(group) * group;
        let ranges = if end >= length {
            // What has no end takes in the last chunk, which alone proves the length.
            ChunkRanges::from(start..)
        } else {
            ChunkRanges::from(start..ChunkNum(end / 1024))
        };
        let mut steps = ResponseIter::new(geometry, ranges);
        let next = steps.next();
        Self { geometry, steps, next, proved: vec![*digest.as_bytes()] }
    }

    /// What comes next; nothing when the range is through.
    pub fn next(&self) -> Option<Next> {
        self.next.as_ref().map(|next| match next {
            BaoChunk::Parent { node, .. } => {
                Next::Pair(self.geometry.pre_order_offset(*node).unwrap_or(0) * PAIR as u64)
            }
            BaoChunk::Leaf { start_chunk, size, .. } => Next::Group(start_chunk.0 * 1024, *size),
        })
    }

    /// Takes a piece, pairs and groups in the order of the walk, and hands each to `keep` once it is verified.
    ///
    /// # Errors
    /// [`Refused::Wrong`] for what is not of this blob; what came before it in the piece was kept.
    pub fn take<E>(
        &mut self,
        mut piece: &[u8],
        mut keep: impl FnMut(Next, &[u8]) -> Result<(), E>,
    ) -> Result<(), Refused<E>> {
        // Nothing is no piece, but of an empty blob: else nothing could come for ever.
        if piece.is_empty() && !matches!(self.next(), Some(Next::Group(_, 0))) {
            return Err(Refused::Wrong);
        }
        loop {
            let Some(next) = self.next() else {
                return if piece.is_empty() { Ok(()) } else { Err(Refused::Wrong) };
            };
            // The one group of an empty blob is taken, too.
            if piece.is_empty() && !matches!(next, Next::Group(_, 0)) {
                return Ok(());
            }
            let length = match next {
                Next::Pair(_) => PAIR,
                Next::Group(_, length) => length,
            };
            let (taken, rest) = piece.split_at_checked(length).ok_or(Refused::Wrong)?;
            let good = match next {
                Next::Pair(_) => taken.first_chunk().is_some_and(|pair| self.pair(pair)),
                Next::Group(..) => self.group(taken),
            };
            if !good {
                return Err(Refused::Wrong);
            }
            keep(next, taken).map_err(Refused::Failed)?;
            piece = rest;
        }
    }

    /// Takes a pair. False, and nothing is taken, when it is not the one of this blob.
    pub fn pair(&mut self, pair: &Pair) -> bool {
        let Some(BaoChunk::Parent { is_root, left, right, .. }) = self.next else { return false };
        let (Some(left_hash), Some(right_hash)) = (pair.first_chunk::<32>(), pair.last_chunk::<32>()) else {
            return false;
        };
        if self.proved.last() != Some(&merge(left_hash, right_hash, is_root)) {
            return false;
        }
        self.proved.pop();
        if right {
            self.proved.push(*right_hash);
        }
        if left {
            self.proved.push(*left_hash);
        }
        self.next = self.steps.next();
        true
    }

    /// Takes a group. False, and nothing is taken, when its bytes are not those of this blob.
    pub fn group(&mut self, bytes: &[u8]) -> bool {
        let Some(BaoChunk::Leaf { size, start_chunk, is_root, .. }) = self.next else { return false };
        if bytes.len() != size {
            return false;
        }
        let mut hasher = Hasher::new();
        let hash = if is_root {
            *hasher.update(bytes).finalize().as_bytes()
        } else {
            hasher.set_input_offset(start_chunk.0 * 1024).update(bytes).finalize_non_root()
        };
        if self.proved.last() != Some(&hash) {
            return false;
        }
        self.proved.pop();
        self.next = self.steps.next();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    fn grown(bytes: &[u8], step: usize) -> (Digest, Vec<u8>) {
        let mut grower = Grower::default();
        bytes.chunks(step).for_each(|chunk| grower.update(chunk));
        assert_eq!(grower.length(), bytes.len() as u64);
        grower.finish()
    }

    /// Walks a range and answers the bytes that it proved.
    fn walked(digest: &Digest, tree: &[u8], bytes: &[u8], range: Range<u64>) -> Option<Vec<u8>> {
        let mut walk = Walk::new(digest, bytes.len() as u64, range);
        let mut proved = Vec::new();
        while let Some(next) = walk.next() {
            let good = match next {
                Next::Pair(at) => walk.pair(tree[at as usize..].first_chunk().unwrap()),
                Next::Group(at, length) => {
                    let group = &bytes[at as usize..at as usize + length];
                    proved.extend_from_slice(group);
                    walk.group(group)
                }
            };
            if !good {
                return None;
            }
        }
        Some(proved)
    }

    const LENGTHS: [usize; 12] = [
        0,
        1,
        1024,
        GROUP - 1,
        GROUP,
        GROUP + 1,
        2 * GROUP,
        2 * GROUP + 1,
        3 * GROUP,
        5 * GROUP + 7,
        8 * GROUP,
        21 * GROUP + 1023,
    ];

    #[test]
    fn the_digest_is_that_of_blake3_whatever_the_pieces() {
        for length in LENGTHS {
            let bytes = bytes(length);
            for step in [1000, GROUP, GROUP * 3 + 1] {
                let (digest, tree) = grown(&bytes, step);
                assert_eq!(digest, Digest::of(&bytes), "{length}");
                assert_eq!(tree.len() as u64, tree_length(length as u64));
            }
        }
    }

    #[test]
    fn the_tree_is_that_of_bao() {
        for length in LENGTHS {
            let bytes = bytes(length);
            let theirs = bao_tree::io::outboard::PreOrderMemOutboard::create(
                &bytes,
                BlockSize::from_chunk_log(GROUP_LOG),
            );
            assert_eq!(grown(&bytes, 4096).1, theirs.data, "{length}");
        }
    }

    #[test]
    fn every_range_proves_itself_and_a_changed_byte_proves_nothing() {
        let group = GROUP as u64;
        for length in LENGTHS {
            let bytes = bytes(length);
            let (digest, tree) = grown(&bytes, GROUP);
            let behind = length as u64 + 3 * group;
            for range in [
                0..length as u64,
                0..1,
                group..2 * group,
                3..group + 3,
                2 * group..u64::MAX,
                behind..behind + 1,
            ] {
                // Behind the end: the last group.
                let first = range.start.min((length as u64).saturating_sub(1));
                let start = (first / group * group) as usize;
                let end = (range.end.min(length as u64).div_ceil(group) * group).min(length as u64) as usize;
                let proved = walked(&digest, &tree, &bytes, range.clone()).unwrap();
                assert_eq!(proved, bytes[start..end.max(start)], "{range:?} of {length}");
                if proved.is_empty() {
                    continue;
                }
                let mut changed = bytes.clone();
                changed[start + proved.len() / 2] ^= 1;
                assert_eq!(walked(&digest, &tree, &changed, range.clone()), None);
                for at in (0..tree.len()).step_by(PAIR + 1) {
                    let mut changed = tree.clone();
                    changed[at] ^= 1;
                    // A range does not need all of the tree.
                    let all = range == (0..length as u64);
                    assert!(walked(&digest, &changed, &bytes, range.clone()).is_none() || !all);
                }
            }
        }
    }

    #[test]
    fn a_wrong_length_proves_nothing() {
        let bytes = bytes(5 * GROUP + 7);
        let (digest, tree) = grown(&bytes, GROUP);
        let shorter = &bytes[..bytes.len() - 1];
        assert_eq!(walked(&digest, &tree, shorter, 0..shorter.len() as u64), None);
    }
}
