//! What the command line does with the blobs of this node.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::answer::{Reader, Writer};
use super::shelves::{self, Generations};
use super::{Node, fetch};
use crate::clock;
use crate::log::Level;
use crate::net::Piece;
use crate::store::blobs::put::{Expected, Kept, Put};
use crate::store::blobs::read::Reading;
use crate::words::blob::{BlobReport, BlobRequest, Collected, Freed, Got, Progress, Put as PutReport, Rest};
use crate::words::count::count;
use crate::words::frame::BODY_MAX;
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome, note};

/// A client that puts a blob may wait for its own source for so long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);
/// A report.
pub const REPORT_MAX: usize = 4 << 10;
/// Pieces between the network and the disk: enough that neither waits for every piece of the other's.
pub(super) const PIECES: usize = 16;
/// How often a client hears how far a fetch is.
const TICK: std::time::Duration = std::time::Duration::from_millis(200);
/// A blob that was put without a pin is kept so long for whoever put it.
const LEASE_MS: u64 = 3_600_000;

/// Answers a request about blobs.
pub async fn answer(
    node: &Node,
    request: BlobRequest,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Outcome<()> {
    match request {
        BlobRequest::Put { length, pin } => {
            let kept = take(node, Expected { digest: None, length }, reader).await?;
            if pin {
                node.reserve.with(|| node.blobs.pin(&kept.blob.digest))?;
            } else {
                keep_for_a_while(node, &kept.blob.digest);
            }
            let (digest, length) = (kept.blob.digest, kept.blob.length);
            let pinned = node.blobs.is_pinned(&digest);
            item_and_end(writer, &PutReport { digest, length, pinned, new: kept.new }).await
        }
        BlobRequest::Get { digest, fetch } => {
            let digest = node.blobs.resolve(&digest)?;
            tokio::select! {
                biased;
                outcome = give(node, digest, fetch, writer) => outcome,
                // Nobody waits for it any more; what was fetched stays for the next one.
                () = reader.hung_up() => Ok(()),
            }
        }
        BlobRequest::List => {
            for report in reports(node)? {
                writer.item(&note::write("report", &report, REPORT_MAX)?).await?;
            }
            writer.end().await
        }
        BlobRequest::Collect { dry_run } => collect(node, dry_run, writer).await,
        BlobRequest::Pin { digest } => {
            let digest = node.blobs.resolve(&digest)?;
            let _lease = node.blobs.lease(digest);
            if node.blobs.length(&digest).is_none() {
                return Err(Fault::new(Code::BlobMissing, format!("blob {} is not here", digest.short()))
                    .fix(format!("midplane blob get {digest} --out FILE fetches it")));
            }
            node.blobs.pin(&digest)?;
            item_and_end(writer, &report_of(node, digest)?).await
        }
        BlobRequest::Unpin { digest } => {
            let digest = node.blobs.resolve(&digest)?;
            if !node.blobs.unpin(&digest)? {
                return Err(Fault::new(Code::NotFound, format!("blob {} is not pinned", digest.short()))
                    .fix("`midplane blob ls` lists what is"));
            }
            item_and_end(writer, &report_of(node, digest)?).await
        }
    }
}

/// Whether a blob is here; if it is, it stays for an hour at least.
pub fn has_for_a_while(node: &Node, blob: &BlobRef) -> bool {
    keep_for_a_while(node, &blob.digest);
    node.blobs.has(blob)
}

/// Keeps a blob from being collected for as long as somebody may need to mark it.
pub fn keep_for_a_while(node: &Node, digest: &Digest) {
    node.blobs.lease_until(*digest, clock::now_ms().saturating_add(LEASE_MS));
}

/// Takes the bytes of a blob from a client, up to the end, and keeps them. Answers when they are durable.
pub async fn take(node: &Node, expected: impl Into<Expected>, reader: &mut Reader) -> Outcome<Kept> {
    let put = node.blobs.put(expected)?;
    let (feed, pieces) = mpsc::channel(PIECES);
    // On a thread of its own: a disk that is slow, or a sync that takes its time, must not hold up calls.
    let mut writing = tokio::task::spawn_blocking(move || write(put, pieces));
    let fed = tokio::select! {
        biased;
        fed = pass_on(reader, feed) => fed,
        ended = &mut writing => return ended.map_err(|error| lost(&error))?,
    };
    let kept = writing.await.map_err(|error| lost(&error))?;
    // A blob that did not come to its end says so in the writer too; the cause is what the feeder met.
    fed.and(kept)
}

/// Some piece, or the end of the blob.
type Fed = Option<Bytes>;

/// Passes pieces on until their end, or until the writer takes no more: then that says why.
async fn pass_on(reader: &mut Reader, feed: mpsc::Sender<Fed>) -> Outcome<()> {
    loop {
        let piece = match tokio::time::timeout(PATIENCE, reader.piece()).await {
            Ok(Ok(Piece::Item(bytes))) => Some(bytes),
            Ok(Ok(Piece::End)) => None,
            Ok(Ok(_)) => return Err(Fault::new(Code::Protocol, "a blob is items and an end")),
            Ok(Err(fault)) => return Err(fault),
            Err(_) => return Err(Fault::new(Code::Protocol, "the blob did not come in time")),
        };
        let ends = piece.is_none();
        if feed.send(piece).await.is_err() || ends {
            return Ok(());
        }
    }
}

fn write(mut put: Put, mut pieces: mpsc::Receiver<Fed>) -> Outcome<Kept> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Some(bytes) => put.write(&bytes)?,
            None => return put.commit(),
        }
    }
    Err(Fault::new(Code::Cancelled, "the blob did not come to its end"))
}

async fn give(node: &Node, digest: Digest, fetch: bool, writer: &mut Writer) -> Outcome<()> {
    let _lease = node.blobs.lease(digest);
    let fetched = node.blobs.length(&digest).is_none();
    if fetched {
        if !fetch {
            return Err(Fault::new(Code::BlobMissing, format!("blob {} is not here", digest.short()))
                .fix("without --local it is fetched from peers"));
        }
        fetch_told(node, &digest, writer).await?;
    }
    let reading = node.blobs.open_range(&digest, 0..u64::MAX)?;
    let length = reading.blob().length;
    writer.item(&note::write("report", &Got { digest, length, fetched }, REPORT_MAX)?).await?;
    let mut pieces = pieces(reading, false);
    while let Some(piece) = pieces.recv().await {
        writer.item(&piece?).await?;
    }
    writer.end().await
}

/// Fetches a blob, and tells how far it is.
async fn fetch_told(node: &Node, digest: &Digest, writer: &mut Writer) -> Outcome<()> {
    let (progress, seen) = watch::channel(Progress { done: 0, total: 0 });
    let mut fetching = std::pin::pin!(fetch::blob(node, digest, None, Some(&progress)));
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            biased;
            fetched = &mut fetching => return fetched.map(drop),
            _ = ticks.tick() => {
                let now = *seen.borrow();
                writer.note(&note::write("progress", &now, note::NOTE_MAX)?).await?;
            }
        }
    }
}

/// Reads on a thread of its own: pieces of one group, after the pairs that prove it if they are wanted. Dropping the receiver ends
/// it at the next piece.
pub fn pieces(mut reading: Reading, pairs: bool) -> mpsc::Receiver<Outcome<Vec<u8>>> {
    let (feed, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = Vec::with_capacity(BODY_MAX);
            match reading.next(pairs, &mut piece) {
                Ok(true) if feed.blocking_send(Ok(piece)).is_ok() => {}
                Ok(_) => return,
                Err(fault) => return drop(feed.blocking_send(Err(fault))),
            }
        }
    });
    pieces
}

async fn collect(node: &Node, dry_run: bool, writer: &mut Writer) -> Outcome<()> {
    let collected = shelves::collect(node, dry_run).await?;
    node.reserve.balance();
    let (freed, unfinished) = (&collected.freed, &collected.unfinished);
    if !dry_run {
        let bytes: u64 = freed.iter().chain(unfinished).map(|blob| blob.length).sum();
        let what =
            format!("collected {}, {}", count(freed.len() + unfinished.len(), "blob"), count(bytes, "byte"));
        node.log.host(Level::Info, &what);
    }
    let rows = freed.iter().map(|blob| (blob, false)).chain(unfinished.iter().map(|blob| (blob, true)));
    for (blob, unfinished) in rows {
        let freed = Freed { digest: blob.digest, length: blob.length, unfinished };
        writer.item(&note::write("report", &Collected::Freed(freed), REPORT_MAX)?).await?;
    }
    let rest = Rest { kept: collected.kept, leased: collected.leased };
    item_and_end(writer, &Collected::Rest(rest)).await
}

fn reports(node: &Node) -> Outcome<Vec<BlobReport>> {
    let generations = shelves::generations(node)?;
    let mut reports: BTreeMap<Digest, BlobReport> = BTreeMap::new();
    let pins = node.blobs.pins()?;
    let all = node.blobs.all()?;
    let rows = all.iter().map(|blob| (blob.digest, Some(blob.length)));
    for (digest, length) in pins.iter().map(|digest| (*digest, None)).chain(rows) {
        reports.insert(digest, report(node, digest, length, &generations)?);
    }
    Ok(reports.into_values().collect())
}

fn report_of(node: &Node, digest: Digest) -> Outcome<BlobReport> {
    report(node, digest, node.blobs.length(&digest), &shelves::generations(node)?)
}

fn report(
    node: &Node,
    digest: Digest,
    length: Option<u64>,
    generations: &Generations,
) -> Outcome<BlobReport> {
    let pinned = node.blobs.is_pinned(&digest);
    let (generations, slots) = (generations.of(&digest), node.holdings.holders(&digest)?);
    Ok(BlobReport { digest, length, pinned, generations, slots })
}

async fn item_and_end<T: serde::Serialize>(writer: &mut Writer, report: &T) -> Outcome<()> {
    writer.last(&note::write("report", report, REPORT_MAX)?).await
}

pub(super) fn lost(error: &tokio::task::JoinError) -> Fault {
    Fault::new(Code::Internal, format!("a transfer ended by itself: {error}"))
}
