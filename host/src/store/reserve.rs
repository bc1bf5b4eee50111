//! Room that is kept back for what a node must be able to write: a file that is there to be given up.
//!
//! Blobs leave room of their own accord, but whatever else fills the disk does not. When it is full the file goes, and the node can
//! still start, keep its floors and its policies' states, and collect.

use std::path::{Path, PathBuf};

use super::disk::Disk;
use crate::words::{Code, Fault, Outcome};

/// Bytes that are kept back: the state of a policy twice, and some small files.
const LENGTH: u64 = 40 << 20;
/// Below this much free space it is given up; above the sum of the two it is taken again.
const LOW: u64 = 8 << 20;

/// The room of one data directory.
pub struct Reserve {
    disk: Disk,
    directory: PathBuf,
}

impl Reserve {
    /// Of this directory. Nothing is taken yet.
    pub fn new(directory: &Path) -> Self {
        Self::on(Disk::default(), directory)
    }

    /// The same on a given disk.
    pub fn on(disk: Disk, directory: &Path) -> Self {
        Self { disk, directory: directory.to_owned() }
    }

    /// Takes the room if there is plenty, gives it up if there is hardly any. It is no failure when neither works: then there
    /// is just less room.
    pub fn balance(&self) {
        let Ok(free) = self.disk.free(&self.directory) else { return };
        if free < LOW {
            self.release();
        } else if free > LOW + LENGTH + super::blobs::RESERVE && !self.is_held() {
            let taken = self.disk.open(&self.path(), 0o600).and_then(|file| file.reserve(LENGTH));
            if taken.is_err() {
                self.release();
            }
        }
    }

    /// Does something that needs little room; when there is none, once more with the room that is kept back.
    ///
    /// # Errors
    /// Those of the work.
    pub fn with<T>(&self, mut work: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        match work() {
            Err(fault) if fault.code == Code::StorageFull && self.release() => work(),
            done => done,
        }
        .map_err(|fault| if fault.code == Code::StorageFull { full(&self.directory, fault) } else { fault })
    }

    /// Whether the room is kept back.
    pub fn is_held(&self) -> bool {
        std::fs::metadata(self.path()).is_ok_and(|status| status.len() == LENGTH)
    }

    fn release(&self) -> bool {
        self.disk.remove(&self.path()).is_ok()
    }

    fn path(&self) -> PathBuf {
        self.directory.join("reserve")
    }
}

fn full(directory: &Path, fault: Fault) -> Fault {
    match fault.fix {
        Some(_) => fault,
        None => fault.fix(format!("free space in {}, or `midplane blob gc`", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::faults::{Faults, Plan};

    #[test]
    fn the_room_is_taken_from_plenty_and_given_up_in_need() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, faults) = Faults::disk(Plan::Nothing);
        let reserve = Reserve::on(disk, directory.path());
        for (free, held) in [(LOW + LENGTH, false), (1 << 40, true), (LOW, true), (LOW - 1, false)] {
            faults.set_free(Some(free));
            reserve.balance();
            assert_eq!(reserve.is_held(), held, "{free}");
        }
    }

    #[test]
    fn what_must_be_written_is_written_with_the_room_that_was_kept_back() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, faults) = Faults::disk(Plan::Nothing);
        let reserve = Reserve::on(disk, directory.path());
        faults.set_free(Some(1 << 40));
        reserve.balance();
        let full = || Fault::new(Code::StorageFull, "the disk is full");
        // Full until the room is given up.
        let work = || if reserve.is_held() { Err(full()) } else { Ok(7) };
        assert_eq!(reserve.with(work), Ok(7));
        let fault = reserve.with::<()>(|| Err(full())).unwrap_err();
        assert!(fault.fix.unwrap().contains("blob gc"));
    }
}
