//! Blobs from peers: asked for by digest, verified group by group as they come, from whoever has them.
//!
//! Those who have the blob ([`super::holders`]) give ranges of it side by side. One that fails leaves its range to the others; one
//! that sends anything else is named in the log and not asked for this blob again. What was verified stays, so a transfer that is cut
//! goes on where it was.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quinn::RecvStream;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

use super::Node;
use super::blobs::{PIECES, keep_for_a_while, lost};
use super::holders::{Holder, Liars, Search, peer, piece};
use crate::clock;
use crate::decisions::pace::{Pace, SPAN};
use crate::log::Level;
use crate::net::{FrameReader, Piece};
use crate::store::blobs::partial::Partial;
use crate::store::blobs::tree::{GROUP, PAIR, Refused, Walk};
use crate::words::blob::{Ask, Progress};
use crate::words::count::count;
use crate::words::frame::BODY_MAX;
use crate::words::note::decode_fault;
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// A blob of which nothing more comes from anybody for so long is given up; what is here of it stays.
const STALLED: Duration = Duration::from_secs(30);
/// Between two looks for somebody who has the blob.
const LOOK: Duration = Duration::from_secs(1);
/// The same while there is somebody who was not asked yet: many who offer a blob and do not give it take their time, one after the other.
const STALLED_MOST: Duration = Duration::from_secs(180);
/// The end of a blob and its proof, 34 KiB at most, does not take longer.
const LAST_GROUP: Duration = Duration::from_secs(30);
/// What one of several holders, or one further away, is asked for at a time: a second of a fast link, so that a slow one does not hold up the
/// end, and nodes between are not kept for as long as a large blob takes.
const SHARE: u64 = 16 << 20;
/// Blobs that are fetched at a time.
const FETCHING: usize = 4;
/// Ranges that are given to peers at a time: each holds a file, a thread and some frames.
const GIVING: usize = 32;
/// Ranges that are passed on between others at a time: each holds a frame and its place in the tree.
const PASSING: usize = 64;
/// Time to wait for one's turn.
const TURN: Duration = Duration::from_secs(600);

/// The transfers of one node.
pub struct Transfers {
    fetching: Semaphore,
    /// Places for what is given to peers.
    giving: Semaphore,
    /// Places for ranges that are passed on between others.
    pub(super) passing: Semaphore,
    /// One fetch of a blob at a time; who comes later waits for it.
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    /// Peers that sent other bytes.
    pub(super) liars: Liars,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            fetching: Semaphore::new(FETCHING),
            giving: Semaphore::new(GIVING),
            passing: Semaphore::new(PASSING),
            turns: Mutex::default(),
            liars: Liars::default(),
        }
    }
}

impl Transfers {
    /// A place for something that is given to a peer, if one is free.
    pub(super) fn place_to_give(&self) -> Outcome<SemaphorePermit<'_>> {
        let busy = "this node gives as many blobs as it can at the moment";
        self.giving.try_acquire().map_err(|_| Fault::new(Code::Busy, busy).fix("try again"))
    }

    fn turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(*digest, Arc::downgrade(&turn));
        turn
    }
}

/// Why a range did not come.
struct Failed {
    fault: Fault,
    lied: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, lied: false }
    }
}

/// Fetches a blob from the nodes that have it. A length that is given is taken as proved.
///
/// # Errors
/// `blob-missing` when nobody has it; `busy`, `too-large`, `storage-full`; why the last holder failed.
pub async fn blob(
    node: &Node,
    digest: &Digest,
    length: Option<u64>,
    progress: Option<&watch::Sender<Progress>>,
) -> Outcome<BlobRef> {
    let busy = |what: &str| {
        let what = format!("{what}, and blob {} waited {} s for its turn", digest.short(), TURN.as_secs());
        Fault::new(Code::Busy, what).fix("try again later")
    };
    let (same, others) = ("it is being fetched already", "as many other blobs as may be are being fetched");
    let turn = node.transfers.turn(digest);
    let _turn = tokio::time::timeout(TURN, turn.lock()).await.map_err(|_| busy(same))?;
    let here = node.blobs.length(digest).filter(|here| length.is_none_or(|length| length == *here));
    if let Some(length) = here {
        return Ok(BlobRef { digest: *digest, length });
    }
    let place =
        tokio::time::timeout(TURN, node.transfers.fetching.acquire()).await.map_err(|_| busy(others))?;
    let _place = place.map_err(|_| busy(others))?;
    let fetch = Fetch { node, digest: *digest, search: Search::new(node, *digest), progress };
    let blob = fetch.run(length).await?;
    keep_for_a_while(node, digest);
    Ok(blob)
}

struct Fetch<'a> {
    node: &'a Node,
    digest: Digest,
    search: Search<'a>,
    progress: Option<&'a watch::Sender<Progress>>,
}

impl Fetch<'_> {
    async fn run(&self, length: Option<u64>) -> Outcome<BlobRef> {
        let mut holders = self.search.holders(length).await;
        let length = match length {
            Some(length) => length,
            None => self.length(&mut holders).await?,
        };
        if holders.is_empty() {
            return Err(self.nobody(None));
        }
        let partial = Arc::new(self.node.blobs.partial(&BlobRef { digest: self.digest, length })?);
        let mut last = None;
        let (mut done, mut since) = (partial.done(), clock::monotonic());
        while !partial.missing(u64::MAX).is_empty() {
            if let Some(fault) = self.round(&partial, &holders).await {
                // A disk that takes nothing does not take more from somebody else.
                if matches!(fault.code, Code::StorageFull | Code::Io) {
                    return Err(fault);
                }
                last = Some(fault);
            }
            if partial.done() > done {
                (done, since) = (partial.done(), clock::monotonic());
            } else if since.elapsed() > if self.search.is_exhausted() { STALLED } else { STALLED_MOST } {
                return Err(self.nobody(last));
            }
            if partial.missing(u64::MAX).is_empty() {
                break;
            }
            tokio::time::sleep(LOOK).await;
            holders = self.search.holders(Some(length)).await;
            // A link may come back; a holder that has lost the blob, or lied, does not get it by waiting.
            let passing =
                |fault: &Fault| matches!(fault.code, Code::LinkLost | Code::Unreachable | Code::Busy);
            if holders.is_empty() && !last.as_ref().is_some_and(passing) {
                return Err(self.nobody(last));
            }
        }
        tokio::task::spawn_blocking(move || partial.finish().map(|()| partial.blob()))
            .await
            .map_err(|error| lost(&error))?
    }

    /// The length that somebody can prove with the end of the blob. Room is taken for it, so nobody's word is enough.
    async fn length(&self, holders: &mut Vec<Holder>) -> Outcome<u64> {
        let (mut last, since) = (None, clock::monotonic());
        while !holders.is_empty() {
            let (length, fault) = self.proved(holders).await;
            if let Some(length) = length {
                holders.retain(|holder| holder.length == length && !self.search.has_failed(holder.key()));
                return Ok(length);
            }
            let busy = fault.as_ref().is_some_and(|fault| fault.code == Code::Busy);
            last = fault.or(last);
            *holders = self.search.holders(None).await;
            // Who failed before fails again, unless it had no time.
            let most = if self.search.is_exhausted() { STALLED } else { STALLED_MOST };
            if since.elapsed() > most || self.search.is_exhausted() && !busy {
                break;
            }
            if self.search.is_exhausted() {
                tokio::time::sleep(LOOK).await;
            }
        }
        Err(self.nobody(last))
    }

    /// What the first of them proves; all are asked side by side, for one may be silent. Or why the last one failed.
    async fn proved(&self, holders: &[Holder]) -> (Option<u64>, Option<Fault>) {
        let asked = holders.iter().map(|holder| async move {
            let late = |_| Err(Fault::new(Code::Unreachable, "the end of the blob did not come").into());
            (holder, tokio::time::timeout(LAST_GROUP, self.last_group(holder)).await.unwrap_or_else(late))
        });
        let (mut asked, mut last): (FuturesUnordered<_>, _) = (asked.collect(), None);
        while let Some((holder, outcome)) = asked.next().await {
            match outcome {
                Ok(()) => return (Some(holder.length), None),
                Err(failed) => {
                    self.failed(holder, &failed);
                    last = Some(failed.fault);
                }
            }
        }
        (None, last)
    }

    async fn last_group(&self, holder: &Holder) -> Result<(), Failed> {
        let length = holder.length;
        let range = length.saturating_sub(1)..length.max(1);
        let mut walk = Walk::new(&self.digest, length, range.clone());
        let mut reader = self.ask(holder, length, range).await?;
        let lied = || Failed { fault: self.other_bytes(holder), lied: true };
        while walk.next().is_some() {
            let bytes = match piece(&mut reader).await? {
                Piece::Item(bytes) => bytes,
                Piece::Error(bytes) => return Err(decode_fault(&bytes).into()),
                _ => return Err(lied()),
            };
            walk.take(&bytes, |_, _| Ok::<(), Fault>(())).map_err(|_| lied())?;
        }
        Ok(())
    }

    /// Lets each holder give what is missing, until nothing is missing or all have failed. Answers why the last one did.
    async fn round(&self, partial: &Arc<Partial>, holders: &[Holder]) -> Option<Fault> {
        let share = if holders.len() > 1 || holders.iter().any(Holder::is_far) { SHARE } else { u64::MAX };
        // The first ranges are at the end, where they are taken from.
        let queue: Mutex<Vec<_>> = Mutex::new(partial.missing(share).into_iter().rev().collect());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let awaited = AtomicBool::new(false);
        let workers: FuturesUnordered<_> = holders
            .iter()
            .map(|holder| async {
                while let Some(range) = next() {
                    if let Err(failed) = self.range(holder, partial, range, &awaited).await {
                        self.failed(holder, &failed);
                        return Some(failed.fault);
                    }
                }
                awaited.store(true, Ordering::Relaxed);
                None
            })
            .collect();
        workers.fold(None, |last, fault| async { fault.or(last) }).await
    }

    async fn range(
        &self,
        holder: &Holder,
        partial: &Arc<Partial>,
        range: Range<u64>,
        awaited: &AtomicBool,
    ) -> Result<(), Failed> {
        let blob = partial.blob();
        let mut reader = self.ask(holder, blob.length, range.clone()).await?;
        let mut walk = Walk::new(&blob.digest, blob.length, range);
        let (feed, mut pieces) = mpsc::channel::<Bytes>(PIECES);
        let written = partial.clone();
        // Hashing and writing are off the threads that carry calls.
        let mut writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                written.take(&mut walk, &piece)?;
            }
            Ok(walk.next().is_none())
        });
        let fed = self.feed(&mut reader, feed, partial, awaited);
        let (fed, written) = tokio::select! {
            biased;
            written = &mut writing => (Ok(()), written),
            fed = fed => (fed, writing.await),
        };
        match written.map_err(|error| lost(&error))? {
            Err(Refused::Wrong) => Err(Failed { fault: self.other_bytes(holder), lied: true }),
            Err(Refused::Failed(fault)) => Err(fault.into()),
            Ok(true) => Ok(()),
            Ok(false) => {
                fed?;
                Err(Fault::new(Code::Protocol, "the range ended before its end").into())
            }
        }
    }

    async fn feed(
        &self,
        reader: &mut FrameReader<RecvStream>,
        feed: mpsc::Sender<Bytes>,
        partial: &Partial,
        awaited: &AtomicBool,
    ) -> Outcome<()> {
        let (mut pace, began) = (Pace::default(), clock::monotonic());
        loop {
            match piece(reader).await? {
                Piece::Item(bytes) => {
                    let (after, length) = (began.elapsed(), bytes.len() as u64);
                    if pace.is_slow(after, length, awaited.load(Ordering::Relaxed)) {
                        let what = format!("hardly anything came in {} s", SPAN.as_secs());
                        return Err(Fault::new(Code::Unreachable, what));
                    }
                    if feed.send(bytes).await.is_err() {
                        return Ok(());
                    }
                    if let Some(progress) = self.progress {
                        progress
                            .send_replace(Progress { done: partial.done(), total: partial.blob().length });
                    }
                }
                Piece::End => return Ok(()),
                Piece::Error(bytes) => return Err(decode_fault(&bytes)),
                _ => return Err(Fault::new(Code::Protocol, "a blob is items and an end")),
            }
        }
    }

    async fn ask(&self, holder: &Holder, length: u64, range: Range<u64>) -> Outcome<FrameReader<RecvStream>> {
        let ask = Ask { digest: self.digest, length: Some(length), start: range.start, end: range.end };
        self.search.ask(&holder.link, holder.to, &ask).await.map(|(reader, _)| reader)
    }

    fn failed(&self, holder: &Holder, failed: &Failed) {
        self.search.fail(holder);
        if failed.lied {
            self.node.transfers.liars.add(holder.link.peer, self.digest);
            let what = format!("{}; it is not asked for this blob again", failed.fault.what);
            self.node.log.host(Level::Warn, &what);
        } else {
            let (name, digest) = (holder.name(), self.digest.short());
            let what = format!("{name} did not give blob {digest}: {}", failed.fault);
            self.node.log.host(Level::Info, &what);
        }
    }

    /// The peer itself, also where it passes on: it should have seen it.
    fn other_bytes(&self, holder: &Holder) -> Fault {
        let (peer, digest) = (peer(&holder.link), self.digest.short());
        let verb = if holder.is_far() { "passed on" } else { "sent" };
        let what = format!("{peer} {verb} bytes that are not those of blob {digest}");
        Fault::new(Code::DigestMismatch, what)
    }

    fn nobody(&self, last: Option<Fault>) -> Fault {
        let (digest, asked) = (self.digest.short(), count(self.search.asked(), "node"));
        let why = last.map(|fault| format!("; the last one failed: {fault}")).unwrap_or_default();
        let what = format!("blob {digest} is not here, and of {asked} that can be asked none gave it{why}");
        Fault::new(Code::BlobMissing, what)
            .fix("`midplane peers` shows who is linked; `blob put` it on a node of the mesh")
    }
}

/// Bytes of one group fit into one frame with the longest proof that a blob can have.
const _: () = assert!(GROUP + PAIR * 64 <= BODY_MAX);
