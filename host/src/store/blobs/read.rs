//! Reading blobs: every byte is verified before it is given to anybody.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::tree::{self, GROUP, Grower, Next, PAIR, Walk};
use super::{Blobs, Lease, WHOLE_MAX, beside, mismatch, missing};
use crate::store::disk::read_full;
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// Bytes that are read at a time where a whole blob is hashed.
const STEP: usize = 1 << 20;

impl Blobs {
    /// Reads a blob into memory and verifies it; one that rotted is taken away.
    ///
    /// # Errors
    /// `blob-missing`, `too-large` beyond [`WHOLE_MAX`], `digest-mismatch` when it rotted.
    pub fn read(&self, blob: &BlobRef) -> Outcome<Vec<u8>> {
        if blob.length > WHOLE_MAX {
            let what = format!(
                "blob {} has {} bytes; {WHOLE_MAX} are read at once",
                blob.digest.short(),
                blob.length
            );
            return Err(Fault::new(Code::TooLarge, what));
        }
        let mut file = self.file(&blob.digest)?;
        let mut bytes = vec![0; usize::try_from(blob.length).unwrap_or(0).saturating_add(1)];
        let read = read_full(&mut file, &mut bytes).map_err(|error| unreadable(&blob.digest, &error))?;
        bytes.truncate(read);
        if let Err(fault) = super::verify(blob, &bytes) {
            self.remove_rotten(&blob.digest, &file);
            return Err(fault);
        }
        Ok(bytes)
    }

    /// Opens a range of a blob for reading piece by piece; the range is widened to whole groups.
    ///
    /// # Errors
    /// `blob-missing`; `digest-mismatch` when it rotted, which takes it away.
    pub fn open_range(self: &Arc<Self>, digest: &Digest, range: Range<u64>) -> Outcome<Reading> {
        let lease = self.lease(*digest);
        let file = self.file(digest)?;
        let length = file.metadata().map_err(|error| unreadable(digest, &error))?.len();
        let tree = self.tree(digest, length)?;
        let walk = Walk::new(digest, length, range);
        let blob = BlobRef { digest: *digest, length };
        Ok(Reading { blobs: self.clone(), blob, file, tree, walk, repaired: false, _lease: lease })
    }

    /// Hashes the whole blob: makes its tree anew, or takes it away when it is not what its name says.
    fn repair(&self, digest: &Digest) -> Outcome<Option<File>> {
        let mut file = self.file(digest)?;
        let mut grower = Grower::default();
        let mut step = vec![0; STEP];
        loop {
            match read_full(&mut file, &mut step).map_err(|error| unreadable(digest, &error))? {
                0 => break,
                read => grower.update(step.get(..read).unwrap_or_default()),
            }
        }
        let (found, tree) = grower.finish();
        if found != *digest {
            self.remove_rotten(digest, &file);
            return Err(mismatch(digest, "it has rotted on this disk, and was taken away")
                .fix(format!("midplane blob get {digest} fetches it again where a peer has it")));
        }
        if tree.is_empty() {
            return Ok(None);
        }
        let place = beside(&self.place(digest));
        let temporary = self.temporary()?;
        let written = (|| {
            self.disk.create(&temporary, 0o600)?.append(&tree)?;
            self.disk.rename(&temporary, &place)?;
            File::open(&place)
        })();
        if written.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        written.map(Some).map_err(|error| Fault::io("cannot write a hash tree", &error))
    }

    /// Takes a blob away whose bytes in this file are others, unless it got good ones meanwhile.
    pub(super) fn remove_rotten(&self, digest: &Digest, file: &File) {
        let _leases = self.leases();
        let of = |status: std::io::Result<std::fs::Metadata>| {
            status.map(|status| (status.dev(), status.ino())).ok()
        };
        if of(file.metadata()) == of(std::fs::metadata(self.place(digest))) {
            // What cannot be taken away is found again.
            let _ = self.remove(digest);
        }
    }

    fn tree(&self, digest: &Digest, length: u64) -> Outcome<Option<File>> {
        if tree::tree_length(length) == 0 {
            return Ok(None);
        }
        match File::open(beside(&self.place(digest))) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.repair(digest),
            Err(error) => Err(unreadable(digest, &error)),
        }
    }

    fn file(&self, digest: &Digest) -> Outcome<File> {
        File::open(self.place(digest)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(digest),
            _ => unreadable(digest, &error),
        })
    }
}

fn unreadable(digest: &Digest, error: &std::io::Error) -> Fault {
    Fault::io(format!("cannot read blob {}", digest.short()), error)
}

/// A range of a blob that is being read. It is not collected meanwhile.
pub struct Reading {
    blobs: Arc<Blobs>,
    blob: BlobRef,
    file: File,
    tree: Option<File>,
    walk: Walk,
    repaired: bool,
    _lease: Lease,
}

impl Reading {
    /// What is read.
    pub fn blob(&self) -> BlobRef {
        self.blob
    }

    /// Appends the next group to `out`, after the pairs that prove it if they are wanted. False when the range is through.
    ///
    /// # Errors
    /// `digest-mismatch` when the blob rotted, which takes it away; `io`. What was appended before is proved.
    pub fn next(&mut self, pairs: bool, out: &mut Vec<u8>) -> Outcome<bool> {
        while let Some(next) = self.walk.next() {
            match next {
                Next::Pair(at) => {
                    let mut pair = [0; PAIR];
                    let read = self.tree.as_ref().map(|tree| tree.read_exact_at(&mut pair, at));
                    if !matches!(read, Some(Ok(()))) || !self.walk.pair(&pair) {
                        self.repair()?;
                        continue;
                    }
                    if pairs {
                        out.extend_from_slice(&pair);
                    }
                }
                Next::Group(at, length) => {
                    let start = out.len();
                    out.resize(start + length.min(GROUP), 0);
                    let group = out.get_mut(start..).unwrap_or_default();
                    let read = self.file.read_exact_at(group, at);
                    if read.is_ok() && self.walk.group(group) {
                        return Ok(true);
                    }
                    out.truncate(start);
                    self.repair()?;
                }
            }
        }
        Ok(false)
    }

    /// Finds out whether the tree or the blob is damaged.
    fn repair(&mut self) -> Outcome<()> {
        if self.repaired {
            let digest = self.blob.digest;
            return Err(Fault::new(
                Code::Io,
                format!("blob {} does not read the same twice", digest.short()),
            ));
        }
        self.repaired = true;
        self.tree = self.blobs.repair(&self.blob.digest)?;
        Ok(())
    }
}
