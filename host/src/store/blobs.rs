//! Blobs on disk by digest.
//!
//! A blob is there or it is not: written to a temporary file, synced, renamed, and the directory synced, before the put is
//! acknowledged. It is verified again whenever it is read to run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use super::files;
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// Kept free, so that state can always be written.
const RESERVE: u64 = 64 << 20;
/// Largest blob of this version: components are the only blobs that nodes ask each other for.
pub const BLOB_MAX: u64 = 64 << 20;

/// The blobs of one node. Nothing outside of the directory can be reached through it.
pub struct Blobs {
    root: PathBuf,
    directory: Dir,
}

impl Blobs {
    /// Opens the directory, makes it if it is missing, and empties what crashed writes left behind.
    pub fn open(root: &Path) -> Outcome<Self> {
        files::private_directory(root)?;
        files::private_directory(&root.join("tmp"))?;
        let fail = |error: std::io::Error| Fault::io(format!("cannot open {}", root.display()), &error);
        let directory = Dir::open_ambient_dir(root, ambient_authority()).map_err(fail)?;
        for entry in directory.read_dir("tmp").map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            directory.remove_file(Path::new("tmp").join(name)).map_err(fail)?;
        }
        Ok(Self { root: root.to_owned(), directory })
    }

    /// Whether the blob is here with this length.
    pub fn has(&self, blob: &BlobRef) -> bool {
        self.directory.metadata(place(&blob.digest)).is_ok_and(|status| status.len() == blob.length)
    }

    /// Reads a blob and verifies it; one that rotted is taken away.
    pub fn read(&self, blob: &BlobRef) -> Outcome<Vec<u8>> {
        let path = place(&blob.digest);
        let fail = |error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Fault::new(Code::BlobMissing, format!("blob {} is not here", blob.digest.short()))
            } else {
                Fault::io(format!("cannot read blob {}", blob.digest.short()), &error)
            }
        };
        let file = self.directory.open(&path).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(blob.length.min(BLOB_MAX) + 1).read_to_end(&mut bytes).map_err(fail)?;
        if let Err(fault) = verify(blob, &bytes) {
            let _ = self.directory.remove_file(&path);
            return Err(fault);
        }
        Ok(bytes)
    }

    /// Starts a put. Nothing is visible before [`Put::commit`].
    pub fn put(&self, blob: &BlobRef) -> Outcome<Put<'_>> {
        if blob.length > BLOB_MAX {
            let what = format!("blob of {} bytes; the limit is {BLOB_MAX}", blob.length);
            return Err(Fault::new(Code::TooLarge, what));
        }
        let free = rustix::fs::statvfs(&self.root)
            .map_err(|error| Fault::io("cannot see free space", &error.into()))?;
        if free.f_bavail.saturating_mul(free.f_frsize) < blob.length + RESERVE {
            return Err(Fault::new(
                Code::StorageFull,
                format!("no room for a blob of {} bytes", blob.length),
            )
            .fix(format!(
                "free space in {}; {} MiB are kept back",
                self.root.display(),
                RESERVE >> 20
            )));
        }
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
        let temporary = Path::new("tmp").join(format!("{:016x}", u64::from_le_bytes(random)));
        let file = self
            .directory
            .open_with(&temporary, OpenOptions::new().write(true).create_new(true).mode(0o600))
            .map_err(|error| Fault::io("cannot write a blob", &error))?
            .into_std();
        let hasher = blake3::Hasher::new();
        Ok(Put { blobs: self, blob: *blob, temporary, file, hasher, written: 0, done: false })
    }

    /// Puts a blob that is in memory.
    pub fn put_all(&self, blob: &BlobRef, bytes: &[u8]) -> Outcome<()> {
        if self.has(blob) {
            return verify(blob, bytes);
        }
        let mut put = self.put(blob)?;
        put.write(bytes)?;
        put.commit()
    }
}

/// A blob that is being written.
pub struct Put<'a> {
    blobs: &'a Blobs,
    blob: BlobRef,
    temporary: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    written: u64,
    done: bool,
}

impl Put<'_> {
    /// Adds bytes; more than the declared length is refused.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.written += bytes.len() as u64;
        if self.written > self.blob.length {
            return Err(mismatch(&self.blob, "it is longer than declared"));
        }
        self.hasher.update(bytes);
        std::io::Write::write_all(&mut self.file, bytes)
            .map_err(|error| Fault::io("cannot write a blob", &error))
    }

    /// Verifies, makes durable and publishes.
    pub fn commit(mut self) -> Outcome<()> {
        if self.written != self.blob.length {
            return Err(mismatch(
                &self.blob,
                &format!("it has {} bytes instead of {}", self.written, self.blob.length),
            ));
        }
        if self.hasher.finalize().as_bytes() != self.blob.digest.as_bytes() {
            return Err(mismatch(&self.blob, "its bytes have another digest"));
        }
        let fail = |error: std::io::Error| Fault::io("cannot keep a blob", &error);
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        self.file.sync_all().map_err(fail)?;
        let path = place(&self.blob.digest);
        if let Some(parent) = path.parent() {
            files::private_directory(&self.blobs.root.join(parent))?;
        }
        let directory = &self.blobs.directory;
        directory.rename(&self.temporary, directory, &path).map_err(fail)?;
        self.done = true;
        files::sync_directory_of(&self.blobs.root.join(&path))
    }
}

impl Drop for Put<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.blobs.directory.remove_file(&self.temporary);
        }
    }
}

/// Refuses bytes that are not the blob.
pub fn verify(blob: &BlobRef, bytes: &[u8]) -> Outcome<()> {
    if bytes.len() as u64 != blob.length {
        return Err(mismatch(blob, &format!("it has {} bytes instead of {}", bytes.len(), blob.length)));
    }
    if Digest::of(bytes) != blob.digest {
        return Err(mismatch(blob, "its bytes have another digest"));
    }
    Ok(())
}

fn mismatch(blob: &BlobRef, why: &str) -> Fault {
    Fault::new(Code::DigestMismatch, format!("blob {} is refused: {why}", blob.digest.short()))
        .fix("apply the manifest again from where its components are")
}

/// `ab/cdef…`: at most 256 directories.
fn place(digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    let (shard, rest) = text.split_at_checked(2).unwrap_or(("", &text));
    Path::new(shard).join(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: &[u8]) -> BlobRef {
        BlobRef { digest: Digest::of(bytes), length: bytes.len() as u64 }
    }

    #[test]
    fn a_blob_is_there_only_after_commit_and_only_whole() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
        let wanted = blob(b"hello");
        let mut put = blobs.put(&wanted).unwrap();
        put.write(b"hel").unwrap();
        drop(put);
        assert!(!blobs.has(&wanted));
        for (bytes, word) in [(&b"hell"[..], "4 bytes"), (b"hallo", "another digest"), (b"hello!", "longer")]
        {
            let mut put = blobs.put(&wanted).unwrap();
            let fault = put.write(bytes).and_then(|()| put.commit()).unwrap_err();
            assert_eq!(fault.code, Code::DigestMismatch);
            assert!(fault.what.contains(word), "{fault}");
        }
        assert_eq!(blobs.read(&wanted).unwrap_err().code, Code::BlobMissing);
        blobs.put_all(&wanted, b"hello").unwrap();
        blobs.put_all(&wanted, b"hello").unwrap();
        assert_eq!(blobs.read(&wanted).unwrap(), b"hello");
        assert_eq!(std::fs::read_dir(directory.path().join("blobs/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_blob_that_rots_is_found_and_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&directory.path().join("blobs")).unwrap();
        let wanted = blob(b"hello");
        blobs.put_all(&wanted, b"hello").unwrap();
        let path = directory.path().join("blobs").join(place(&wanted.digest));
        std::fs::write(&path, b"hellO").unwrap();
        assert_eq!(blobs.read(&wanted).unwrap_err().code, Code::DigestMismatch);
        assert!(!blobs.has(&wanted));
    }
}
