//! A range of a blob that passes through this node, between two others.
//!
//! The question is forwarded as any call is, so that hops, loops and trust are bounded as theirs. The answer is not only spliced: each
//! group is verified against the digest before it goes on. So a node never sends bytes that are not of the blob, and whoever gets some
//! knows who has changed them. What is held is one group and a path of its tree, whatever the size of the blob; nothing is kept.

use quinn::{RecvStream, SendStream};

use super::NodeInner;
use super::give::{ASK_MAX, FUNCTION, PATIENCE, PRIORITY};
use super::holders::{self, piece};
use super::links::Link;
use super::plans::Ways;
use super::serve::{send_on, trust_of};
use crate::clock;
use crate::decisions::trust::{self, Operation};
use crate::log::Level;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::store::blobs::BLOB_MAX;
use crate::store::blobs::tree::Walk;
use crate::words::blob::{Ask, Offer};
use crate::words::envelope::{FixedRef, OpenRef};
use crate::words::frame::BODY_MAX;
use crate::words::note::{self, decode_fault};
use crate::words::{Code, Fault, Name, NodeId, Outcome};

/// Whether a call asks a node for a blob.
pub fn asks(name: &Name, fixed: &FixedRef<'_>) -> bool {
    name.is_reserved() && fixed.function == FUNCTION
}

/// A question that is on its way to the node that it names.
pub struct Question<'a> {
    /// The neighbour that it came from.
    pub peer: NodeId,
    /// As it came.
    pub open: &'a OpenRef<'a>,
    /// Its fixed part.
    pub fixed: &'a FixedRef<'a>,
    /// The name of the node.
    pub name: &'a Name,
    /// When it came.
    pub started: clock::Instant,
}

/// Passes it on, and the answer back.
pub async fn on(node: &NodeInner, question: &Question<'_>, ways: &Ways, mut writer: FrameWriter<SendStream>) {
    if let Err(fault) = pass(node, question, ways, &mut writer).await {
        // Who asked may be gone; then there is nobody to tell.
        let _ = writer.fail(&fault).await;
    }
}

async fn pass(
    node: &NodeInner,
    question: &Question<'_>,
    ways: &Ways,
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    let Question { peer, open, fixed, name, started } = *question;
    let trusted = trust_of(node, &peer);
    // The holder asks for it, too. Who may not have it keeps no stream of the nodes between busy.
    trust::check(Operation::FetchBlob, open.hop.trust.min(trusted), &peer)?;
    let ask: Ask = note::read("blob request", fixed.arguments, ASK_MAX)?;
    if fixed.more {
        return Err(Fault::new(Code::Protocol, "a blob request is one item"));
    }
    let spent = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    let hop = open.hop.forward(peer, trusted, spent)?;
    let _place = node.transfers.passing.try_acquire().map_err(|_| {
        Fault::new(Code::Busy, "this node passes on as many blobs as it can at the moment").fix("try again")
    })?;
    let mut last = None;
    for (link, to) in node.ways(name, ways, Some(peer), &hop.chain) {
        if node.transfers.liars.has(&link.peer, &ask.digest) {
            let what = format!("{} has sent other bytes for this blob", holders::peer(&link));
            last = Some(Fault::new(Code::BlobMissing, what));
            continue;
        }
        match send_on(open.fixed, &hop, false, &link).await {
            Ok((_send, recv)) => {
                let answer = FrameReader::new(recv, BODY_MAX);
                return answered(node, &link, to, name, &ask, answer, writer).await;
            }
            Err(fault) => {
                node.report_outcome(name, link.peer, to, &fault);
                last = Some(fault);
            }
        }
    }
    Err(last.unwrap_or_else(|| node.no_route(name, "no way is open")))
}

async fn answered(
    node: &NodeInner,
    link: &Link,
    to: NodeId,
    name: &Name,
    ask: &Ask,
    mut answer: FrameReader<RecvStream>,
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    let _ = writer.inner().set_priority(PRIORITY);
    let mut checked = Checked::new(*ask);
    loop {
        // Who asked may go away while nothing comes; dropping the answer's stream tells the next node.
        let stopped = async { writer.inner().stopped().await };
        let piece = tokio::select! {
            biased;
            piece = piece(&mut answer) => piece,
            _ = stopped => return Err(Fault::new(Code::Cancelled, "the one who asked went away")),
        };
        let piece = piece.inspect_err(|fault| {
            if matches!(fault.code, Code::LinkLost | Code::Unreachable) {
                node.report_outcome(name, link.peer, to, fault);
            }
        })?;
        let fine = match &piece {
            Piece::Error(bytes) => return Err(decode_fault(bytes)),
            Piece::Item(bytes) => checked.takes(bytes),
            Piece::End => checked.is_whole(),
            Piece::Note(_) => continue,
            Piece::Open(_) => false,
        };
        if !fine {
            answer.stop(Code::DigestMismatch);
            return Err(lied(node, link, ask));
        }
        let Piece::Item(bytes) = piece else { return writer.end().await };
        let what = || format!("the one who asked took nothing for {} s", PATIENCE.as_secs());
        let written = tokio::time::timeout(PATIENCE, writer.item(&bytes)).await;
        written.unwrap_or_else(|_| Err(Fault::new(Code::Unreachable, what())))?;
    }
}

fn lied(node: &NodeInner, link: &Link, ask: &Ask) -> Fault {
    let (peer, digest) = (holders::peer(link), ask.digest.short());
    let what = format!("{peer} sent bytes that are not those of blob {digest}");
    node.transfers.liars.add(link.peer, ask.digest);
    node.log.host(Level::Warn, &format!("{what}; nothing of this blob is passed on from it again"));
    Fault::new(Code::DigestMismatch, what)
}

/// What may come of an answer: the offer, the groups of the range in their order, and the end.
struct Checked {
    ask: Ask,
    walk: Option<Walk>,
}

impl Checked {
    fn new(ask: Ask) -> Self {
        Self { ask, walk: None }
    }

    /// Whether the item is the next one of this answer.
    fn takes(&mut self, item: &[u8]) -> bool {
        let Ask { digest, length, start, end } = self.ask;
        match &mut self.walk {
            Some(walk) if end > start => walk.take(item, |_, _| Ok::<(), Fault>(())).is_ok(),
            Some(_) => false,
            None => {
                let Ok(offer) = note::read::<Offer>("offer", item, ASK_MAX) else { return false };
                let fits = offer.length <= BLOB_MAX && length.is_none_or(|length| length == offer.length);
                self.walk = fits.then(|| Walk::new(&digest, offer.length, start..end.max(start)));
                fits
            }
        }
    }

    /// Whether nothing is missing of it.
    fn is_whole(&self) -> bool {
        let asked = self.ask.end > self.ask.start;
        self.walk.as_ref().is_some_and(|walk| !asked || walk.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blobs::Blobs;
    use crate::store::blobs::tree::GROUP;
    use crate::words::objects::BlobRef;

    /// An answer as a holder gives it: the offer, then the groups with their proofs.
    fn answer(ask: &Ask, length: usize) -> (Ask, Vec<Vec<u8>>) {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 31 + at / 251) as u8).collect();
        let blob = BlobRef { digest: crate::words::Digest::of(&bytes), length: length as u64 };
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
        blobs.put_all(&blob, &bytes).unwrap();
        let ask = Ask { digest: blob.digest, ..*ask };
        let mut items = vec![note::write("offer", &Offer { length: blob.length }, ASK_MAX).unwrap()];
        if ask.end > ask.start {
            let mut reading = blobs.open_range(&ask.digest, ask.start..ask.end).unwrap();
            let mut item = Vec::new();
            while reading.next(true, &mut item).unwrap() {
                items.push(std::mem::take(&mut item));
            }
        }
        (ask, items)
    }

    fn ask(start: u64, end: u64) -> Ask {
        Ask { digest: [0; 32].into(), length: None, start, end }
    }

    /// How many items are passed on, and whether the answer may end then.
    fn passed(ask: Ask, items: &[Vec<u8>]) -> (usize, bool) {
        let mut checked = Checked::new(ask);
        let count = items.iter().take_while(|item| checked.takes(item)).count();
        (count, checked.is_whole())
    }

    const LENGTHS: [usize; 6] = [0, 1, GROUP, GROUP + 1, 5 * GROUP + 7, 8 * GROUP];

    #[test]
    fn a_true_answer_passes() {
        for length in LENGTHS {
            for range in [ask(0, 0), ask(0, u64::MAX), ask(0, 1), ask(GROUP as u64, 3 * GROUP as u64)] {
                if range.start > 0 && range.start >= length as u64 {
                    continue;
                }
                let (ask, items) = answer(&range, length);
                assert_eq!(passed(ask, &items), (items.len(), true), "{ask:?} of {length}");
            }
        }
    }

    #[test]
    fn a_changed_byte_ends_it_before_it_passes() {
        for length in LENGTHS {
            let (ask, items) = answer(&ask(0, u64::MAX), length);
            for position in 1..items.len() {
                for at in [0, items[position].len() / 2, items[position].len().saturating_sub(1)] {
                    let mut changed = items.clone();
                    match changed[position].get_mut(at) {
                        Some(byte) => *byte ^= 1,
                        None => changed[position].push(1),
                    }
                    assert_eq!(passed(ask, &changed).0, position, "{length}: {position} {at}");
                }
            }
        }
    }

    #[test]
    fn what_is_short_or_long_or_out_of_order_is_no_answer() {
        let (ask, items) = answer(&ask(0, u64::MAX), 5 * GROUP + 7);
        for count in 0..items.len() {
            assert_eq!(passed(ask, &items[..count]), (count, false), "it is not whole");
        }
        let mut more = items.clone();
        more.push(vec![0]);
        assert_eq!(passed(ask, &more).0, items.len());
        let mut empty = items.clone();
        empty.insert(2, Vec::new());
        assert_eq!(passed(ask, &empty), (2, false), "nothing is no group");
        let mut swapped = items.clone();
        swapped.swap(2, 3);
        assert_eq!(passed(ask, &swapped).0, 2);
        for length in [0, BLOB_MAX + 1, u64::MAX] {
            let wrong = Ask { length: Some(length), ..ask };
            assert_eq!(passed(wrong, &items), (0, false), "another length than was asked for");
        }
        let large = note::write("offer", &Offer { length: BLOB_MAX + 1 }, ASK_MAX).unwrap();
        assert_eq!(passed(ask, &[large]), (0, false));
        assert_eq!(passed(Ask { start: 0, end: 0, ..ask }, &items).0, 1, "only the offer was asked for");
    }
}
