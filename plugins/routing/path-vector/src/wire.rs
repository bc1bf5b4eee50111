//! What path-vector policies say to each other, protocol `path-vector/1`.
//!
//! A message is one byte of flags and then parts in a row. The first message of a full state has [`BEGIN`], the last
//! one [`END`]; what was heard before `BEGIN` and not again until `END` is void. Messages between are increments.

use midplane_sdk::codec;
use midplane_sdk::routing::{Claim, NodeId};
use midplane_sdk::serde::{Deserialize, Serialize};

/// The protocol string of the manifest that this policy understands.
pub(crate) const PROTOCOL: &str = "path-vector/1";

/// A full state begins.
pub(crate) const BEGIN: u8 = 1;
/// With [`BEGIN`]: the sender knows nothing of the receiver and wants its full state.
pub(crate) const ASK: u8 = 2;
/// The full state is complete.
pub(crate) const END: u8 = 4;

/// Longest message: what a channel takes.
const MESSAGE_MAX: usize = 60 << 10;
/// Most parts that are read of a message. An honest one holds fewer, because a node id alone is 52 bytes; a
/// message of many tiny parts would use up the receiver's fuel.
const PARTS_MAX: usize = 1_200;
/// Longest path, in nodes, as it is sent. Longer than any mesh that people have laid out, and short enough that
/// a chain of withdrawals ends soon.
pub(crate) const PATH_MAX: usize = 16;
/// Characters of a node id.
const NODE_ID_CHARS: usize = 52;
/// Longest name, and longest proof, that the contract allows.
const NAME_MAX: usize = 320;
const PROOF_MAX: usize = 4 << 10;

/// One statement, as it is sent: [`Part`] without owning anything.
#[derive(Serialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) enum Statement<'a> {
    Route { claim: &'a Claim, path: &'a [NodeId] },
    Withdraw { name: &'a str, node: &'a str },
}

/// One statement, as it is received.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) enum Part {
    /// The sender reaches `claim.node`, which serves `claim.name`, by this path: first the sender, last the node.
    /// Replaces what it said before of the same name and node.
    Route { claim: Claim, path: Vec<NodeId> },
    /// The sender does not reach this node for this name any more.
    Withdraw { name: String, node: NodeId },
}

/// Whether a route that this neighbour sent may be used at all.
pub(crate) fn acceptable(claim: &Claim, path: &[NodeId], from: &str) -> bool {
    let distinct = |(index, node): (usize, &NodeId)| {
        node.len() == NODE_ID_CHARS && !path.iter().take(index).any(|earlier| earlier == node)
    };
    path.len() <= PATH_MAX
        && path.first().is_some_and(|first| first == from)
        && path.last() == Some(&claim.node)
        && path.iter().enumerate().all(distinct)
        && claim.name.len() <= NAME_MAX
        && claim.proof.len() <= PROOF_MAX
}

/// The flags and parts of a message. Reading ends at the first part that is none.
pub(crate) fn read(message: &[u8]) -> (u8, impl Iterator<Item = Result<Part, String>>) {
    let (flags, parts) = message.split_first().map_or((0, message), |(flags, parts)| (*flags, parts));
    let too_many = |(index, part)| if index < PARTS_MAX { part } else { Err("too many parts".to_owned()) };
    (flags, codec::decode_each(parts).take(PARTS_MAX + 1).enumerate().map(too_many))
}

/// Messages to one neighbour in the making.
pub(crate) struct Outbox {
    flags: u8,
    current: Vec<u8>,
    full: Vec<Vec<u8>>,
}

impl Outbox {
    /// Nothing yet; the first message will have these flags.
    pub(crate) fn new(flags: u8) -> Self {
        Self { flags, current: vec![flags], full: Vec::new() }
    }

    /// Adds a part, to another message when this one is full.
    pub(crate) fn push(&mut self, part: &Statement) {
        let bytes = codec::encode(part);
        if self.current.len() + bytes.len() > MESSAGE_MAX {
            self.full.push(std::mem::replace(&mut self.current, vec![0]));
        }
        self.current.extend_from_slice(&bytes);
    }

    /// The messages. The last one is marked as the end of the full state when it is that.
    pub(crate) fn finish(mut self, end: bool) -> Vec<Vec<u8>> {
        if let (true, Some(flags)) = (end, self.current.first_mut()) {
            *flags |= END;
        }
        if self.current.len() > 1 || end || self.flags != 0 && self.full.is_empty() {
            self.full.push(self.current);
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        format!("{text:a<52}")
    }

    fn claim(node: &str, proof: usize) -> Claim {
        Claim { name: "x@d".into(), node: id(node), serial: 1, expires: 2, proof: vec![7; proof] }
    }

    #[test]
    fn many_parts_become_several_messages_and_all_arrive() {
        let (claim, path) = (claim("b", PROOF_MAX), [id("c"), id("b")]);
        let mut outbox = Outbox::new(BEGIN | ASK);
        (0..40).for_each(|_| outbox.push(&Statement::Route { claim: &claim, path: &path }));
        outbox.push(&Statement::Withdraw { name: "x@d", node: "b" });
        let messages = outbox.finish(true);
        assert!(messages.len() > 1 && messages.iter().all(|message| message.len() <= MESSAGE_MAX));
        let flags: Vec<u8> = messages.iter().map(|message| read(message).0).collect();
        assert_eq!((flags[0], flags[flags.len() - 1]), (BEGIN | ASK, END));
        let arrived: Vec<Part> =
            messages.iter().flat_map(|message| read(message).1).map(Result::unwrap).collect();
        let route = Part::Route { claim: claim.clone(), path: path.to_vec() };
        assert_eq!(arrived.iter().filter(|part| **part == route).count(), 40);
        assert_eq!(arrived.last(), Some(&Part::Withdraw { name: "x@d".into(), node: "b".into() }));
        assert_eq!(arrived.len(), 41);
    }

    #[test]
    fn flags_alone_are_a_message_and_nothing_is_none() {
        assert_eq!(Outbox::new(BEGIN).finish(false), [[BEGIN]]);
        assert_eq!(Outbox::new(BEGIN).finish(true), [[BEGIN | END]]);
        assert_eq!(Outbox::new(0).finish(true), [[END]]);
        assert!(Outbox::new(0).finish(false).is_empty());
    }

    #[test]
    fn a_message_of_many_tiny_parts_is_read_only_so_far() {
        let tiny = codec::encode(&Statement::Withdraw { name: "", node: "" });
        let message = [vec![0], tiny.repeat(PARTS_MAX * 2)].concat();
        let read: Vec<_> = read(&message).1.collect();
        assert_eq!(read.iter().filter(|part| part.is_ok()).count(), PARTS_MAX);
        assert_eq!(read.last(), Some(&Err("too many parts".to_owned())));
    }

    #[test]
    fn routes_must_lead_from_the_sender_to_the_claimed_node_without_a_loop() {
        let path = |nodes: &[&str]| nodes.iter().map(|node| id(node)).collect::<Vec<_>>();
        let long: Vec<NodeId> = (0..PATH_MAX).map(|i| id(&format!("{i}"))).chain([id("b")]).collect();
        for (nodes, from, expect) in [
            (path(&["b"]), id("b"), true),
            (path(&["c", "b"]), id("c"), true),
            (path(&[]), id("c"), false),
            (path(&["b"]), id("c"), false),
            (path(&["c"]), id("c"), false),
            (path(&["c", "d", "c", "b"]), id("c"), false),
            (vec!["c".into(), id("b")], "c".into(), false),
            (long[1..].to_vec(), id("1"), true),
            (long, id("0"), false),
        ] {
            assert_eq!(acceptable(&claim("b", 1), &nodes, &from), expect, "{nodes:?}");
        }
        assert!(!acceptable(&claim("b", PROOF_MAX + 1), &path(&["b"]), &id("b")));
    }
}
