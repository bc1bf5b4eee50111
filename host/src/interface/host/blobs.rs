//! `midplane:host/blobs`: bytes by digest. What a slot puts is kept for it, within its grant.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Resource;

use super::error;
use super::generated::{blobs, types};
use crate::clock;
use crate::decisions::rights::Rights;
use crate::decisions::trust::{self, Operation};
use crate::store::blobs::Blobs;
use crate::store::blobs::put::{Expected, Put};
use crate::store::blobs::read::Reading;
use crate::store::blobs::tree::GROUP;
use crate::store::holdings::{Holdings, Room};
use crate::wasm::guest::{Guest, Terms};
use crate::wasm::outward::Outward;
use crate::words::count::count;
use crate::words::objects::{BlobAccess, BlobGrant, BlobRef};
use crate::words::{Code, Digest, Fault, Outcome};

/// Blobs that one slot may have open at a time: each holds a file or two.
const OPEN_MOST: usize = 64;
/// Most bytes of one write or read.
const PIECE_MAX: usize = 1 << 20;
/// Blobs of one listing.
const KEPT_MOST: usize = 1_000;
/// Bytes of a digest as text, and of a length.
const ROW_BYTES: usize = 72;

/// What one slot has of the node's blobs.
#[derive(Clone)]
pub struct Shelf {
    blobs: Arc<Blobs>,
    holdings: Arc<Holdings>,
    open: Arc<Semaphore>,
}

impl Shelf {
    /// Nothing is open.
    pub fn new(blobs: Arc<Blobs>, holdings: Arc<Holdings>) -> Self {
        Self { blobs, holdings, open: Arc::new(Semaphore::new(OPEN_MOST)) }
    }

    fn place(&self, slot: &str) -> Outcome<OwnedSemaphorePermit> {
        self.open.clone().try_acquire_owned().map_err(|_| {
            Fault::new(Code::Busy, format!("{slot} has {OPEN_MOST} blobs open"))
                .fix("drop those that are done")
        })
    }
}

/// A blob that a guest is putting. Dropped with its handle or with the store, which leaves nothing behind.
pub struct Writer {
    /// None once it is finished or has failed.
    writing: Option<Writing>,
    _place: OwnedSemaphorePermit,
}

struct Writing {
    put: Put,
    room: Room,
    length: u64,
}

/// A part of a blob that a guest is reading.
pub struct Reader {
    blob: BlobRef,
    /// None at the end, and after an error.
    reading: Option<Rest>,
    _place: OwnedSemaphorePermit,
}

struct Rest {
    groups: Reading,
    /// What was read and not given yet, after the first `given` bytes.
    ready: Vec<u8>,
    given: usize,
    /// Bytes that are still to be given.
    left: u64,
}

type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

/// A failure is data for the guest.
fn told<T>(outcome: Outcome<T>) -> Answer<T> {
    Ok(outcome.map_err(error))
}

impl blobs::Host for Guest {
    async fn put(&mut self, length: Option<u64>) -> Answer<Resource<Writer>> {
        let access = Access::of(self);
        let put = async { access?.put(length).await };
        match put.await {
            Ok(writer) => Ok(Ok(self.table.push(writer)?)),
            Err(fault) => told(Err(fault)),
        }
    }

    async fn get(&mut self, digest: String, start: u64, length: Option<u64>) -> Answer<Resource<Reader>> {
        self.spend_bytes(digest.len())?;
        let access = Access::of(self);
        let get = async { access?.get(&digest, start, length).await };
        match get.await {
            Ok(reader) => Ok(Ok(self.table.push(reader)?)),
            Err(fault) => told(Err(fault)),
        }
    }

    fn find(&mut self, digest: String) -> Answer<Option<u64>> {
        self.spend_bytes(digest.len())?;
        told((|| Ok(Access::of(self)?.find(&parse(&digest)?)))())
    }

    fn kept(&mut self, after: Option<String>) -> Answer<Vec<blobs::Blob>> {
        let found = (|| {
            let after = after.as_deref().map(parse).transpose()?;
            let access = Access::of(self)?;
            access.shelf.holdings.of(&access.slot, after.as_ref(), KEPT_MOST)
        })();
        self.spend_bytes(found.as_ref().map_or(0, |found| found.len() * ROW_BYTES))?;
        told(found.map(|found| found.into_iter().map(described).collect()))
    }

    async fn let_go(&mut self, digest: String) -> Answer<bool> {
        self.spend_bytes(digest.len())?;
        let (slot, outward) = (self.plugin.slot.clone(), self.plugin.outward.clone());
        let let_go = async { outward.let_go(slot, parse(&digest)?).await };
        told(let_go.await)
    }

    fn room(&mut self) -> Answer<blobs::Usage> {
        told((|| {
            let Access { slot, grant, shelf, .. } = Access::of(self)?;
            Ok(blobs::Usage { used: shelf.holdings.used(&slot)?, most: grant.write.unwrap_or(0) })
        })())
    }
}

impl blobs::HostWriter for Guest {
    async fn write(&mut self, writer: Resource<Writer>, bytes: Vec<u8>) -> Answer<()> {
        self.spend_bytes(bytes.len())?;
        let writer = self.table.get_mut(&writer)?;
        let Some(mut writing) = writer.writing.take() else { return told(Err(over())) };
        let done = away(move || {
            add(&mut writing, &bytes)?;
            Ok(writing)
        });
        told(done.await?.map(|writing| writer.writing = Some(writing)))
    }

    async fn finish(&mut self, writer: Resource<Writer>) -> Answer<blobs::Blob> {
        let Some(Writing { put, room, .. }) = self.table.get_mut(&writer)?.writing.take() else {
            return told(Err(over()));
        };
        let done = away(move || {
            // The lease is held until the blob is kept for the slot.
            let kept = put.commit()?;
            room.keep(&kept.blob)?;
            Ok(described(kept.blob))
        });
        told(done.await?)
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

impl blobs::HostReader for Guest {
    fn blob(&mut self, reader: Resource<Reader>) -> wasmtime::Result<blobs::Blob> {
        let blob = self.table.get(&reader)?.blob;
        self.spend_bytes(ROW_BYTES)?;
        Ok(described(blob))
    }

    async fn next(&mut self, reader: Resource<Reader>, most: u32) -> Answer<Option<Vec<u8>>> {
        let reader = self.table.get_mut(&reader)?;
        let Some(mut rest) = reader.reading.take() else { return Ok(Ok(None)) };
        let most = usize::try_from(most).unwrap_or(PIECE_MAX).clamp(1, PIECE_MAX);
        let done = away(move || {
            let piece = rest.take(most)?;
            Ok((piece, rest))
        });
        match done.await? {
            Ok((piece, rest)) => {
                reader.reading = Some(rest).filter(|rest| rest.left > 0);
                self.spend_bytes(piece.len())?;
                Ok(Ok(Some(piece)))
            }
            Err(fault) => told(Err(fault)),
        }
    }

    fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

impl Rest {
    /// At least one of the bytes that are left, and at most so many.
    fn take(&mut self, most: usize) -> Outcome<Vec<u8>> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        while self.ready.len() - self.given < most && self.groups.next(false, &mut self.ready)? {}
        let piece = self.ready.get(self.given..).unwrap_or_default();
        let piece = piece.get(..most).unwrap_or(piece).to_vec();
        self.given += piece.len();
        self.left = if piece.is_empty() { 0 } else { self.left - piece.len() as u64 };
        if self.given * 2 >= self.ready.len() {
            self.ready.drain(..self.given);
            // A reader that waits holds less than a group: it does not count against the memory of the guest.
            self.ready.shrink_to_fit();
            self.given = 0;
        }
        Ok(piece)
    }
}

/// Works away from the threads that run guests: each step may wait for the disk.
async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> wasmtime::Result<Outcome<T>> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| wasmtime::Error::msg("the host panicked in this call"))
}

fn panicked() -> Fault {
    Fault::new(Code::Internal, "the host panicked in this call")
}

/// What a call may do with blobs, apart from the store that it runs in.
struct Access {
    slot: String,
    grant: BlobGrant,
    shelf: Shelf,
    rights: Rights,
    deadline: clock::Instant,
    outward: Arc<dyn Outward>,
}

impl Access {
    fn of(guest: &Guest) -> Outcome<Self> {
        let plugin = &guest.plugin;
        let none = || Fault::new(Code::MissingGrant, format!("{} has no blobs here", plugin.slot));
        let Terms { deadline, rights, .. } = *guest.terms();
        Ok(Self {
            slot: plugin.slot.clone(),
            grant: plugin.grants.blobs.unwrap_or_default(),
            shelf: plugin.given.blobs.clone().ok_or_else(none)?,
            rights,
            deadline,
            outward: plugin.outward.clone(),
        })
    }

    async fn put(self, length: Option<u64>) -> Outcome<Writer> {
        let most = self.grant.write.ok_or_else(|| {
            Fault::new(Code::MissingGrant, format!("{} may not put blobs", self.slot))
                .fix("grants.blobs = { write = \"64MiB\" }")
        })?;
        let place = self.shelf.place(&self.slot)?;
        if !self.shelf.holdings.left_by(&self.slot, 1)?.is_empty() {
            self.outward.sweep(self.slot.clone()).await;
        }
        let begun = tokio::task::spawn_blocking(move || {
            let mut room = self.shelf.holdings.room(&self.slot, most)?;
            room.grow_to(length.unwrap_or(0))?;
            Ok(Writing { put: self.shelf.blobs.put(Expected { digest: None, length })?, room, length: 0 })
        });
        let writing = begun.await.map_err(|_| panicked())??;
        Ok(Writer { writing: Some(writing), _place: place })
    }

    async fn get(self, digest: &str, start: u64, length: Option<u64>) -> Outcome<Reader> {
        let digest = parse(digest)?;
        self.may_read(&digest)?;
        let place = self.shelf.place(&self.slot)?;
        let blobs = self.shelf.blobs.clone();
        // From before it is looked for until it is open.
        let _lease = blobs.lease(digest);
        if blobs.length(&digest).is_none() {
            self.fetch(digest).await?;
        }
        let opened = tokio::task::spawn_blocking(move || {
            let whole = blobs.length(&digest).ok_or_else(|| missing(&digest))?;
            let most = whole.checked_sub(start).ok_or_else(|| {
                let (digest, whole) = (digest.short(), count(whole, "byte"));
                Fault::new(
                    Code::Usage,
                    format!("blob {digest} has {whole} and cannot be read from {start} on"),
                )
            })?;
            let left = length.map_or(most, |length| length.min(most));
            // An empty range is at its end; nothing is opened for it.
            let reading = if left == 0 { None } else { Some(rest(&blobs, &digest, start, left)?) };
            Ok((BlobRef { digest, length: whole }, reading))
        });
        let (blob, reading) = opened.await.map_err(|_| panicked())??;
        Ok(Reader { blob, reading, _place: place })
    }

    fn find(&self, digest: &Digest) -> Option<u64> {
        self.may_read(digest).ok().and_then(|()| self.shelf.blobs.length(digest))
    }

    async fn fetch(&self, digest: Digest) -> Outcome<()> {
        if self.grant.read != Some(BlobAccess::Mesh) {
            return Err(missing(&digest).fix("grants.blobs = { read = \"mesh\" } lets it be fetched"));
        }
        let late = || Fault::new(Code::Deadline, format!("blob {} did not come in time", digest.short()));
        let fetched = tokio::time::timeout_at(self.deadline, self.outward.fetch(digest)).await;
        fetched.unwrap_or_else(|_| Err(late()))
    }

    /// Whether the guest may read a blob: what its slot keeps always, others within its grant and on behalf of who might fetch them.
    fn may_read(&self, digest: &Digest) -> Outcome<()> {
        if self.shelf.holdings.has(&self.slot, digest)? {
            return Ok(());
        }
        if self.grant.read.is_none() {
            let (slot, digest) = (&self.slot, digest.short());
            let what = format!("{slot} may read the blobs that it keeps, and {digest} is none of them");
            return Err(Fault::new(Code::MissingGrant, what).fix("grants.blobs = { read = \"node\" }"));
        }
        trust::check(Operation::FetchBlob, self.rights.trust, &self.rights.from)
    }
}

fn add(writing: &mut Writing, bytes: &[u8]) -> Outcome<()> {
    if bytes.len() > PIECE_MAX {
        let what = format!("a write of {} bytes; the limit is {PIECE_MAX}", bytes.len());
        return Err(Fault::new(Code::TooLarge, what));
    }
    writing.length = writing.length.saturating_add(bytes.len() as u64);
    writing.room.grow_to(writing.length)?;
    writing.put.write(bytes)
}

/// The groups that a range lies in, without what is before it in the first one.
fn rest(blobs: &Arc<Blobs>, digest: &Digest, start: u64, left: u64) -> Outcome<Rest> {
    let mut groups = blobs.open_range(digest, start..start.saturating_add(left))?;
    let mut ready = Vec::new();
    groups.next(false, &mut ready)?;
    let before = start % GROUP as u64;
    let given = usize::try_from(before).unwrap_or(usize::MAX).min(ready.len());
    Ok(Rest { groups, ready, given, left })
}

fn parse(digest: &str) -> Outcome<Digest> {
    digest.parse().map_err(|fault: Fault| Fault { code: Code::Usage, ..fault })
}

fn described(blob: BlobRef) -> blobs::Blob {
    blobs::Blob { digest: blob.digest.to_string(), length: blob.length }
}

fn missing(digest: &Digest) -> Fault {
    Fault::new(Code::BlobMissing, format!("blob {} is not here", digest.short()))
}

fn over() -> Fault {
    Fault::new(Code::Usage, "the writer is finished or has failed")
}

#[cfg(test)]
mod tests;
