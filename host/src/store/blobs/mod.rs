//! Blobs on disk by digest.
//!
//! A blob is there or it is not: written to a temporary file, synced, renamed, and the directory synced, before a put is
//! acknowledged. Beside it lies its hash tree, with which every group of its bytes is verified whenever it is read; the tree can be made
//! again from the bytes. What is being fetched lies apart, with as much of its tree, and is taken up again after a crash.

pub mod collect;
pub mod partial;
pub mod pins;
pub mod put;
pub mod read;
pub mod tree;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;
use super::files;
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// Kept free on the file system, so that state can always be written and a full node can still collect.
pub const RESERVE: u64 = 64 << 20;
/// Largest blob. The digests of the groups of one that is being written take a thousandth of it in memory.
pub const BLOB_MAX: u64 = 16 << 30;
/// Largest blob that is read into memory at once: a component.
pub const WHOLE_MAX: u64 = 64 << 20;
/// Fewest characters of a digest that stand for the whole.
const PREFIX_MIN: usize = 4;
/// Characters of a digest in the name of its directory.
const SHARD: usize = 2;
/// Ending of the file with a blob's tree.
const TREE: &str = ".tree";

/// The blobs of one node.
pub struct Blobs {
    root: PathBuf,
    disk: Disk,
    leases: Mutex<Leases>,
}

/// Who needs which blob for a while.
#[derive(Default)]
struct Leases {
    /// Transfers and reads that go on, by blob.
    held: HashMap<Digest, usize>,
    /// Blobs that somebody will come back for, until then, Unix ms.
    until: HashMap<Digest, u64>,
}

/// A blob is not collected while this is held.
pub struct Lease {
    blobs: Arc<Blobs>,
    digest: Digest,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.blobs.leases();
        if let Some(count) = leases.held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                leases.held.remove(&self.digest);
            }
        }
    }
}

impl Blobs {
    /// Opens the directory, makes it if it is missing, and empties what crashed writes left behind.
    pub fn open(root: &Path) -> Outcome<Arc<Self>> {
        Self::on(Disk::default(), root)
    }

    /// The same on a given disk.
    pub fn on(disk: Disk, root: &Path) -> Outcome<Arc<Self>> {
        let fail = |error: std::io::Error| Fault::io(format!("cannot open {}", root.display()), &error);
        for path in [root.to_owned(), root.join("tmp"), root.join("pins"), root.join("partial")] {
            files::private_directory_on(&disk, &path)?;
        }
        for entry in std::fs::read_dir(root.join("tmp")).map_err(fail)? {
            disk.remove(&entry.map_err(fail)?.path()).map_err(fail)?;
        }
        Ok(Arc::new(Self { root: root.to_owned(), disk, leases: Mutex::default() }))
    }

    /// Whether the blob is here with this length.
    pub fn has(&self, blob: &BlobRef) -> bool {
        self.length(&blob.digest) == Some(blob.length)
    }

    /// Bytes of the blob, if it is here.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        let status = std::fs::metadata(self.place(digest)).ok()?;
        status.is_file().then_some(status.len())
    }

    /// Every blob that is here, with its length, in the order of the digests.
    pub fn all(&self) -> Outcome<Vec<BlobRef>> {
        let mut found = Vec::new();
        for shard in names(&self.root)?.into_iter().filter(|name| name.len() == SHARD) {
            for rest in names(&self.root.join(&shard))? {
                // Trees, and whatever else does not look like a blob, are passed over.
                if let Ok(digest) = format!("{shard}{rest}").parse::<Digest>()
                    && let Some(length) = self.length(&digest)
                {
                    found.push(BlobRef { digest, length });
                }
            }
        }
        found.sort_unstable_by_key(|blob| blob.digest);
        Ok(found)
    }

    /// The one digest that a text begins: of the blobs that are here, or that are pinned. A whole digest need not be here.
    pub fn resolve(&self, text: &str) -> Outcome<Digest> {
        if let Ok(digest) = text.parse() {
            return Ok(digest);
        }
        let hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !hex || text.len() < PREFIX_MIN || text.len() > 64 {
            let what = format!("not a digest: {:?}", crate::words::id::clip(text));
            let fix = format!(
                "a digest is 64 characters of lower-case hex, or {PREFIX_MIN} and more of its first: `midplane blob ls`"
            );
            return Err(Fault::new(Code::Usage, what).fix(fix));
        }
        let mut known: Vec<Digest> = self.all()?.into_iter().map(|blob| blob.digest).collect();
        known.extend(self.pins()?);
        known.sort_unstable();
        known.dedup();
        let matching: Vec<&Digest> =
            known.iter().filter(|digest| digest.to_string().starts_with(text)).collect();
        match matching.as_slice() {
            [one] => Ok(**one),
            [] => Err(unknown(text, &known)),
            many => {
                let shown: Vec<String> = many.iter().take(3).map(|digest| digest.short()).collect();
                Err(Fault::new(Code::Usage, format!("{text} begins {} digests", many.len()))
                    .fix(format!("say more of it: {}", shown.join(", "))))
            }
        }
    }

    /// Keeps the blob from being collected for as long as the lease is held, whether it is here already or not.
    pub fn lease(self: &Arc<Self>, digest: Digest) -> Lease {
        *self.leases().held.entry(digest).or_insert(0) += 1;
        Lease { blobs: self.clone(), digest }
    }

    /// Keeps the blob from being collected until this time, Unix ms.
    pub fn lease_until(&self, digest: Digest, until: u64) {
        let mut leases = self.leases();
        let kept = leases.until.entry(digest).or_insert(0);
        *kept = until.max(*kept);
    }

    /// Refuses to take more bytes when that would eat into what is kept free.
    fn check_room(&self, more: u64) -> Outcome<()> {
        let free = self.disk.free(&self.root).map_err(|error| Fault::io("cannot see free space", &error))?;
        if free >= more.saturating_add(RESERVE) {
            return Ok(());
        }
        let (free, reserve) = (free >> 20, RESERVE >> 20);
        let what = format!(
            "{} has no room for {more} more bytes: {free} MiB are free, and {reserve} MiB of them are kept back",
            self.root.display()
        );
        Err(Fault::new(Code::StorageFull, what).fix("free space there, or `midplane blob gc`"))
    }

    /// Removes a blob and its tree. What reads it goes on; nobody else finds it.
    fn remove(&self, digest: &Digest) -> std::io::Result<()> {
        let place = self.place(digest);
        self.disk.remove(&place)?;
        match self.disk.remove(&beside(&place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        // A panic between two changes cannot leave more than a count that is too high.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        place(&self.root, digest)
    }

    fn temporary(&self) -> Outcome<PathBuf> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
        Ok(self.root.join("tmp").join(format!("{:016x}", u64::from_le_bytes(random))))
    }
}

/// A whole blob below this directory, which a running node may have open. Nothing there is changed.
///
/// # Errors
/// `blob-missing`, and `digest-mismatch` when it has rotted.
pub fn peek(root: &Path, blob: &BlobRef) -> Outcome<Vec<u8>> {
    let bytes = files::read_limited(&place(root, &blob.digest), WHOLE_MAX)?;
    let bytes = bytes.ok_or_else(|| missing(&blob.digest))?;
    verify(blob, &bytes)?;
    Ok(bytes)
}

/// `ab/cdef…`: at most 256 directories.
fn place(root: &Path, digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    let (shard, rest) = text.split_at_checked(SHARD).unwrap_or(("", &text));
    root.join(shard).join(rest)
}

/// The file with the tree of the blob that lies there.
fn beside(place: &Path) -> PathBuf {
    let mut path = place.as_os_str().to_owned();
    path.push(TREE);
    path.into()
}

/// The names in a directory that are text; nothing when there is no such directory.
fn names(directory: &Path) -> Outcome<Vec<String>> {
    let fail = |error: std::io::Error| Fault::io(format!("cannot list {}", directory.display()), &error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(fail)?.file_name().into_string().ok());
    }
    Ok(names)
}

fn unknown(text: &str, known: &[Digest]) -> Fault {
    let fault = Fault::new(Code::NotFound, format!("no blob here begins with {text}"));
    let near = known
        .iter()
        .map(|digest| digest.to_string().chars().take(text.len()).collect::<String>())
        .min_by_key(|begin| strsim::levenshtein(begin, text));
    match near {
        Some(near) if strsim::levenshtein(&near, text) <= 2 => fault.fix(format!("did you mean {near}?")),
        _ => fault
            .fix("`midplane blob ls` lists what is here; what is elsewhere is asked for by its whole digest"),
    }
}

/// Refuses bytes that are not the blob.
pub fn verify(blob: &BlobRef, bytes: &[u8]) -> Outcome<()> {
    if bytes.len() as u64 != blob.length {
        return Err(mismatch(
            &blob.digest,
            &format!("it has {} bytes instead of {}", bytes.len(), blob.length),
        ));
    }
    if Digest::of(bytes) != blob.digest {
        return Err(mismatch(&blob.digest, "its bytes have another digest"));
    }
    Ok(())
}

fn mismatch(digest: &Digest, why: &str) -> Fault {
    Fault::new(Code::DigestMismatch, format!("blob {} is refused: {why}", digest.short()))
        .fix("apply the manifest again from where its components are")
}

fn missing(digest: &Digest) -> Fault {
    Fault::new(Code::BlobMissing, format!("blob {} is not here", digest.short()))
}

#[cfg(test)]
mod tests;
