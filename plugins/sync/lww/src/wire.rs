//! What lww policies say to each other, protocol `lww/1`.
//!
//! A message is one byte that says what it is, and values in a row. The receiver acknowledges each but acknowledgements, so that a
//! sender is never further ahead than a channel holds.

use midplane_sdk::serde::{Deserialize, Serialize};
use midplane_sdk::{NodeId, codec};

use crate::clock::{Stamp, Time};
use crate::table::{Key, Meta};

/// The protocol string of the manifest that this policy understands.
pub(crate) const PROTOCOL: &str = "lww/1";

/// Longest message: what a channel takes.
const MESSAGE_MAX: usize = 60 << 10;
/// Bytes of one piece of an index or of what is known: several of them fit into the window.
pub(crate) const PIECE: usize = 32 << 10;

const INDEX: u8 = 1;
const ENTRIES: u8 = 2;
const KNOWN: u8 = 3;
const ACK: u8 = 4;

/// A row on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) struct Item {
    pub(crate) key: Key,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) meta: Meta,
}

/// The sender's rows with keys after `after` up to `upto`, by their stamps. No `upto` means to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) struct Index {
    /// Counts the indexes that the sender began on this link.
    pub(crate) round: u32,
    /// Those of the sender; it takes nothing of others.
    pub(crate) datasets: Vec<String>,
    pub(crate) after: Option<Key>,
    pub(crate) upto: Option<Key>,
    pub(crate) rows: Vec<(Key, Stamp)>,
}

/// The receiver has been sent all that the sender has, in answer to the receiver's index of this round. So it has, of each of these
/// nodes, everything that was written in the dataset up to the time; or something newer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "midplane_sdk::serde")]
pub(crate) struct Known {
    pub(crate) round: u32,
    pub(crate) times: Vec<(String, NodeId, Time)>,
}

/// A message that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Index(Index),
    /// The rows up to the first that cannot be read, and what is wrong with that.
    Entries(Vec<Item>, Option<String>),
    Known(Known),
    /// So many bytes were taken.
    Ack(u32),
}

pub(crate) fn read(bytes: &[u8]) -> Result<Heard, String> {
    let (kind, body) = bytes.split_first().ok_or("an empty message")?;
    match *kind {
        INDEX => codec::decode(body).map(Heard::Index),
        KNOWN => codec::decode(body).map(Heard::Known),
        ACK => codec::decode(body).map(Heard::Ack),
        ENTRIES => {
            let mut items = Vec::new();
            for item in codec::decode_each(body) {
                match item {
                    Ok(item) => items.push(item),
                    Err(error) => return Ok(Heard::Entries(items, Some(error))),
                }
            }
            Ok(Heard::Entries(items, None))
        }
        other => Err(format!("a message of kind {other}")),
    }
}

pub(crate) fn index(index: &Index) -> Vec<u8> {
    message(INDEX, &codec::encode(index))
}

pub(crate) fn known(known: &Known) -> Vec<u8> {
    message(KNOWN, &codec::encode(known))
}

pub(crate) fn ack(bytes: usize) -> Vec<u8> {
    message(ACK, &codec::encode(&(bytes as u32)))
}

/// As few messages as hold these rows, in their order.
pub(crate) fn entries<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for item in items {
        let bytes = codec::encode(item);
        match messages.last_mut() {
            Some(last) if last.len() + bytes.len() <= MESSAGE_MAX => last.extend(bytes),
            _ => messages.push(message(ENTRIES, &bytes)),
        }
    }
    messages
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane_sdk::Map;

    fn item(key: &str, value: Option<Vec<u8>>) -> Item {
        let stamp = Stamp { time: (7, 1), node: "n".repeat(52), gone: false };
        Item { key: ("config".into(), key.into()), value, meta: Meta { stamp, seen: Map::new() } }
    }

    #[test]
    fn rows_fill_messages_and_come_back_in_order() {
        let items: Vec<Item> = (0..9).map(|n| item(&format!("k{n}"), Some(vec![n; 32 << 10]))).collect();
        let messages = entries(&items);
        assert_eq!(messages.len(), 9);
        let small: Vec<Item> =
            (0..900).map(|n| item(&format!("k{n}"), (n % 2 == 0).then(Vec::new))).collect();
        let messages_of_small = entries(&small);
        assert_eq!(messages_of_small.len(), 2);
        for (messages, items) in [(messages, items), (messages_of_small, small)] {
            let mut back = Vec::new();
            for message in messages {
                assert!(message.len() <= MESSAGE_MAX);
                let Heard::Entries(items, None) = read(&message).unwrap() else { panic!("no entries") };
                back.extend(items);
            }
            assert_eq!(back, items);
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_and_what_came_before_it_is_kept() {
        let two = [item("a", None), item("b", None)];
        let whole = entries(&two).remove(0);
        let Ok(Heard::Entries(items, Some(_))) = read(&whole[..whole.len() - 1]) else { panic!("no error") };
        assert_eq!(items, two[..1]);
        for bad in [&[][..], &[9], &[INDEX], &[ACK, 255], &[KNOWN, 1, 2, 3]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(read(&ack(70_000)), Ok(Heard::Ack(70_000)));
    }
}
