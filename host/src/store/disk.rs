//! Every change that this node makes to its files, one operation each.
//!
//! Whatever must be old or new after a crash goes through here: small files, blobs, trust files, the pointer to the generation. So a
//! test can let any single operation fail, or let the power go at it, and look at what is left; see `faults`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(test)]
pub mod faults;

/// The file system. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    #[cfg(test)]
    faults: Option<std::sync::Arc<faults::Faults>>,
}

impl Disk {
    /// Makes a directory and those above it, for their owner alone. One that is there already is fine.
    pub fn make_directory(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.step(Step::Other)?;
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Makes a file that is not there yet.
    pub fn create(&self, path: &Path, mode: u32) -> Result<DiskFile> {
        self.step(Step::Create(path))?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Opens a file for changes, and makes it where it is missing.
    pub fn open(&self, path: &Path, mode: u32) -> Result<DiskFile> {
        self.step(Step::Create(path))?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode).open(path)?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Gives a file another name; one that has the name already is gone.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.step(Step::Rename(from, to))?;
        std::fs::rename(from, to)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> Result<()> {
        self.step(Step::Remove(path))?;
        std::fs::remove_file(path)
    }

    /// Makes what happened to the names in a directory durable.
    pub fn sync_directory(&self, path: &Path) -> Result<()> {
        self.step(Step::SyncDirectory(path))?;
        File::open(path).and_then(|directory| directory.sync_all())
    }

    /// Bytes that this user may still write to the file system of the path.
    pub fn free(&self, path: &Path) -> Result<u64> {
        #[cfg(test)]
        if let Some(free) = self.faults.as_ref().and_then(|faults| faults.free()) {
            return Ok(free);
        }
        let status = rustix::fs::statvfs(path)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests let it fail")]
    fn step(&self, _: Step<'_>) -> Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, step: Step<'_>) -> Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.step(step))
    }
}

/// What is about to happen, as far as a test must know.
#[cfg_attr(not(test), expect(dead_code, reason = "only tests look at it"))]
enum Step<'a> {
    /// Bytes go to a file.
    Write(&'a Path, &'a File, &'a [u8], u64),
    /// A file becomes durable.
    Sync(&'a Path),
    /// A file appears, if it is not there yet.
    Create(&'a Path),
    /// The names in a directory become durable.
    SyncDirectory(&'a Path),
    /// A file gets another name.
    Rename(&'a Path, &'a Path),
    /// A file goes.
    Remove(&'a Path),
    /// Something that is there or not, with nothing in between.
    Other,
}

/// A file that is being written.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    /// Writes at a place.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.disk.step(Step::Write(&self.path, &self.file, bytes, at))?;
        self.file.write_all_at(bytes, at)
    }

    /// Adds bytes where the last write of this kind ended.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let at = std::io::Seek::stream_position(&mut self.file)?;
        self.disk.step(Step::Write(&self.path, &self.file, bytes, at))?;
        self.file.write_all(bytes)
    }

    /// Sets the length, and takes the room for it where the file system can.
    pub fn reserve(&self, length: u64) -> Result<()> {
        self.disk.step(Step::Other)?;
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, length.max(1)) {
            Ok(()) => {}
            // Then the room is taken as it is written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        self.file.set_len(length)
    }

    /// Makes content and length durable.
    pub fn sync(&self) -> Result<()> {
        self.disk.step(Step::Sync(&self.path))?;
        self.file.sync_all()
    }

    /// The file, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Reads as much as there is, up to the length of the buffer; short only at the end of the file.
pub fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
