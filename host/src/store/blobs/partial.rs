//! A blob that is being fetched: what is verified of it stays, over cuts and restarts.
//!
//! Two files of the final length: the bytes, and the tree as far as it is known. Nothing is remembered about what is there: opening
//! looks at what the tree proves, so that a crash cannot make anybody believe in bytes that are not.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::put::check_size;
use super::tree::{self, GROUP, Next, Refused, Walk};
use super::{Blobs, Lease, beside};
use crate::store::disk::DiskFile;
use crate::words::objects::BlobRef;
use crate::words::{Digest, Fault, Outcome};

impl Blobs {
    /// Begins to fetch a blob, or goes on where it was left. The length is to be proved, because room is taken for it.
    ///
    /// # Errors
    /// `too-large`, `storage-full`, `io`.
    pub fn partial(self: &Arc<Self>, blob: &BlobRef) -> Outcome<Partial> {
        let fail = |error: std::io::Error| Fault::io("cannot begin to fetch a blob", &error);
        check_size(blob.length)?;
        let lease = self.lease(blob.digest);
        let place = self.partial_place(&blob.digest);
        let tree_length = tree::tree_length(blob.length);
        let known = |path: &std::path::Path, length| {
            std::fs::metadata(path).is_ok_and(|status| status.is_file() && status.len() == length)
        };
        let resumed = known(&place, blob.length) && known(&beside(&place), tree_length);
        if !resumed {
            self.check_room(blob.length)?;
        }
        let data = self.disk.open(&place, 0o600).map_err(fail)?;
        let tree = self.disk.open(&beside(&place), 0o600).map_err(fail)?;
        let here = if resumed {
            valid(blob, tree.file(), data.file()).map_err(fail)?
        } else {
            data.reserve(blob.length).map_err(fail)?;
            tree.reserve(tree_length).map_err(fail)?;
            vec![false; groups(blob.length)]
        };
        let here = Mutex::new(here);
        Ok(Partial { blobs: self.clone(), blob: *blob, place, data, tree, here, _lease: lease })
    }

    pub(super) fn partial_place(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.to_string())
    }
}

/// Groups of a blob of this length; an empty blob has one, too.
fn groups(length: u64) -> usize {
    usize::try_from(length.div_ceil(GROUP as u64).max(1)).unwrap_or(usize::MAX)
}

/// Which groups the tree proves.
fn valid(blob: &BlobRef, tree: &File, data: &File) -> std::io::Result<Vec<bool>> {
    let mut here = vec![false; groups(blob.length)];
    for range in tree::valid(blob, tree, data)? {
        let (first, end) = (range.start / GROUP as u64, range.end.div_ceil(GROUP as u64));
        for group in first..end {
            if let Some(here) = usize::try_from(group).ok().and_then(|group| here.get_mut(group)) {
                *here = true;
            }
        }
    }
    Ok(here)
}

/// A blob that is being fetched. Several ranges may be written at a time. Dropping it leaves what is there for the next time.
pub struct Partial {
    blobs: Arc<Blobs>,
    blob: BlobRef,
    place: PathBuf,
    data: DiskFile,
    tree: DiskFile,
    here: Mutex<Vec<bool>>,
    _lease: Lease,
}

impl Partial {
    /// What it will be.
    pub fn blob(&self) -> BlobRef {
        self.blob
    }

    /// Ranges of bytes that are missing, each at most so long. Nothing when all is here.
    pub fn missing(&self, most: u64) -> Vec<Range<u64>> {
        let most = (most / GROUP as u64).max(1);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (group, _) in self.here().iter().enumerate().filter(|(_, here)| !**here) {
            let group = group as u64;
            match ranges.last_mut() {
                Some(last) if last.end == group && last.end - last.start < most => last.end += 1,
                _ => ranges.push(group..group + 1),
            }
        }
        let bytes = |group: u64| (group * GROUP as u64).min(self.blob.length.max(1));
        ranges.into_iter().map(|range| bytes(range.start)..bytes(range.end)).collect()
    }

    /// Bytes that are here and verified.
    pub fn done(&self) -> u64 {
        let here = self.here().iter().filter(|here| **here).count();
        (here as u64 * GROUP as u64).min(self.blob.length)
    }

    /// Verifies a piece — pairs and groups in the order of the walk — and writes it.
    ///
    /// # Errors
    /// [`Refused::Wrong`] for what is not of this blob; what came before it in the piece was taken.
    pub fn take(&self, walk: &mut Walk, piece: &[u8]) -> Result<(), Refused<Fault>> {
        walk.take(piece, |next, bytes| {
            let written = match next {
                Next::Pair(at) => self.tree.write_at(bytes, at),
                Next::Group(at, _) => self.data.write_at(bytes, at).inspect(|()| self.mark(at)),
            };
            written.map_err(|error| Fault::io("cannot write a blob", &error))
        })
    }

    /// Makes a blob of it, durably, once nothing is missing.
    ///
    /// # Errors
    /// `io` and `storage-full`; then it stays as it is.
    pub fn finish(&self) -> Outcome<()> {
        if let Some(range) = self.missing(u64::MAX).first() {
            let (digest, from) = (self.blob.digest.short(), range.start);
            return Err(Fault::new(
                crate::words::Code::Internal,
                format!("blob {digest} lacks bytes from {from} on"),
            ));
        }
        self.data.sync().map_err(|error| Fault::io("cannot keep a blob", &error))?;
        let beside = beside(&self.place);
        let has_tree = tree::tree_length(self.blob.length) > 0;
        self.blobs.settle(&self.blob.digest, &self.place, has_tree.then_some(&*beside))?;
        if !has_tree {
            let _ = self.blobs.disk.remove(&beside);
        }
        Ok(())
    }

    fn mark(&self, at: u64) {
        let group = usize::try_from(at / GROUP as u64).unwrap_or(usize::MAX);
        if let Some(here) = self.here().get_mut(group) {
            *here = true;
        }
    }

    fn here(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
