//! Writing a blob: not there until it is whole, verified and durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tree::Grower;
use super::{BLOB_MAX, Blobs, Lease, beside, mismatch};
use crate::store::disk::DiskFile;
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// Free space is looked at again whenever so many bytes were written: puts that go on side by side cannot use up between two looks what is
/// kept back.
const LOOK_EVERY: u64 = 1 << 20;

/// What is known of a blob before its bytes come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Its digest.
    pub digest: Option<Digest>,
    /// Its length.
    pub length: Option<u64>,
}

impl From<BlobRef> for Expected {
    fn from(blob: BlobRef) -> Self {
        Self { digest: Some(blob.digest), length: Some(blob.length) }
    }
}

impl Blobs {
    /// Starts a put. Nothing is visible before [`Put::commit`].
    ///
    /// # Errors
    /// `too-large` beyond [`BLOB_MAX`], `storage-full` when what is kept free would be touched.
    pub fn put(self: &Arc<Self>, expected: impl Into<Expected>) -> Outcome<Put> {
        let expected = expected.into();
        check_size(expected.length.unwrap_or(0))?;
        self.check_room(expected.length.unwrap_or(0))?;
        let temporary = self.temporary()?;
        let file =
            self.disk.create(&temporary, 0o600).map_err(|error| Fault::io("cannot write a blob", &error))?;
        let lease = expected.digest.map(|digest| self.lease(digest));
        let mut put = Put {
            blobs: self.clone(),
            expected,
            temporary,
            file,
            grower: Grower::default(),
            looked: 0,
            lease,
            done: false,
        };
        put.reserve()?;
        Ok(put)
    }

    /// Puts a blob that is in memory.
    ///
    /// # Errors
    /// As [`Blobs::put`] and [`Put::commit`].
    pub fn put_all(self: &Arc<Self>, blob: &BlobRef, bytes: &[u8]) -> Outcome<()> {
        let mut put = self.put(*blob)?;
        put.write(bytes)?;
        put.commit().map(drop)
    }

    /// Gives a finished file its place, durably. The tree goes first: without the blob it is nothing.
    pub(super) fn settle(&self, digest: &Digest, data: &Path, tree: Option<&Path>) -> Outcome<()> {
        let fail = |error: std::io::Error| Fault::io("cannot keep a blob", &error);
        let place = self.place(digest);
        let shard = place.parent().unwrap_or(&self.root);
        self.disk.make_directory(shard).map_err(fail)?;
        // Also when it is there: whoever made it may not have come so far.
        self.disk.sync_directory(&self.root).map_err(fail)?;
        // Not between the two looks of who takes a rotten one away.
        let leases = self.leases();
        if let Some(tree) = tree {
            self.disk.rename(tree, &beside(&place)).map_err(fail)?;
        }
        self.disk.rename(data, &place).map_err(fail)?;
        drop(leases);
        self.disk.sync_directory(shard).map_err(fail)
    }
}

/// Refuses a length beyond what a node takes.
pub(super) fn check_size(length: u64) -> Outcome<()> {
    if length > BLOB_MAX {
        let what = format!("blob of {length} bytes; the limit is {BLOB_MAX}");
        return Err(Fault::new(Code::TooLarge, what).fix("cut it into several blobs"));
    }
    Ok(())
}

/// A blob that is being written. Dropping it leaves nothing behind.
pub struct Put {
    blobs: Arc<Blobs>,
    expected: Expected,
    temporary: PathBuf,
    file: DiskFile,
    grower: Grower,
    looked: u64,
    lease: Option<Lease>,
    done: bool,
}

impl Put {
    /// Adds bytes.
    ///
    /// # Errors
    /// `digest-mismatch` beyond the declared length, `too-large` beyond [`BLOB_MAX`], `storage-full`.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        let length = self.grower.length() + bytes.len() as u64;
        match (self.expected.length, self.expected.digest) {
            (Some(expected), Some(digest)) if length > expected => {
                return Err(mismatch(&digest, "it is longer than declared"));
            }
            // Room was taken for what was declared, and for no more.
            (Some(expected), None) if length > expected => {
                let what = format!("a blob is longer than the {expected} bytes that were declared");
                return Err(Fault::new(Code::DigestMismatch, what));
            }
            _ => check_size(length)?,
        }
        // Room for a declared length was taken at the start.
        if self.expected.length.is_none() && length - self.looked >= LOOK_EVERY {
            self.looked = length;
            self.blobs.check_room(0)?;
        }
        self.grower.update(bytes);
        self.file.append(bytes).map_err(|error| Fault::io("cannot write a blob", &error))
    }

    /// Verifies, makes durable and publishes.
    ///
    /// # Errors
    /// `digest-mismatch` when the bytes are not what was declared, `storage-full` and `io`. Then nothing was kept.
    pub fn commit(mut self) -> Outcome<Kept> {
        let length = self.grower.length();
        let (digest, tree) = std::mem::take(&mut self.grower).finish();
        if let Some(expected) = self.expected.length.filter(|expected| *expected != length) {
            let blob = self.expected.digest.unwrap_or(digest);
            return Err(mismatch(&blob, &format!("it has {length} bytes instead of {expected}")));
        }
        if let Some(expected) = self.expected.digest.filter(|expected| *expected != digest) {
            return Err(mismatch(&expected, "its bytes have another digest"));
        }
        let blob = BlobRef { digest, length };
        // From before it can be seen to after somebody has marked it as needed.
        let lease = self.lease.take().unwrap_or_else(|| self.blobs.lease(digest));
        // One that is here gets these bytes all the same: its own may have rotted, or not be durable yet.
        let new = !self.blobs.has(&blob);
        let fail = |error: std::io::Error| Fault::io("cannot keep a blob", &error);
        self.file.sync().map_err(fail)?;
        let beside = beside(&self.temporary);
        if !tree.is_empty() {
            // Not synced: a tree that is torn is made again from the bytes.
            self.blobs.disk.create(&beside, 0o600).and_then(|mut file| file.append(&tree)).map_err(fail)?;
        }
        self.blobs.settle(&digest, &self.temporary, (!tree.is_empty()).then_some(&*beside))?;
        self.done = true;
        Ok(Kept { blob, new, lease })
    }

    /// Takes the room for a declared length, so that a put that cannot end does not begin.
    fn reserve(&mut self) -> Outcome<()> {
        match self.expected.length {
            Some(length) => {
                self.file.reserve(length).map_err(|error| Fault::io("cannot write a blob", &error))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.blobs.disk.remove(&self.temporary);
            let _ = self.blobs.disk.remove(&beside(&self.temporary));
        }
    }
}

/// A blob that was put.
pub struct Kept {
    /// What it is.
    pub blob: BlobRef,
    /// Whether it was not here before.
    pub new: bool,
    /// Keeps it until whoever put it has marked it.
    pub lease: Lease,
}
