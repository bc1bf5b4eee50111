//! A node's directory: who may open it, and what lies where.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::files;
use crate::words::{Code, Fault, Outcome};

/// Longest path of a Unix socket, its final zero included, is 108 bytes.
const SOCKET_PATH_MAX: usize = 107;
/// Bytes of the lock file that are shown.
const HOLDER_MAX: u64 = 256;

/// Where things lie. Nothing is opened yet.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Names the directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The node's secret key.
    pub fn node_key(&self) -> PathBuf {
        self.0.join("node.key")
    }

    /// The owner's secret key, where the mesh was made here and the key was not taken away.
    pub fn owner_key(&self) -> PathBuf {
        self.0.join("owner.key")
    }

    /// The secret key that signs manifests, where the mesh was made here.
    pub fn operator_key(&self) -> PathBuf {
        self.0.join("operator.key")
    }

    /// Roots, membership and floors, see [`super::trust`].
    pub fn trust(&self) -> PathBuf {
        self.0.join("trust.cbor")
    }

    /// The node's label.
    pub fn label(&self) -> PathBuf {
        self.0.join("label")
    }

    /// Signed manifests by version.
    pub fn generations(&self) -> PathBuf {
        self.0.join("generations")
    }

    /// Blobs by digest.
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// Compiled code.
    pub fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The database of what the node can live without.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.redb")
    }

    /// The control socket of the running node.
    pub fn socket(&self) -> Outcome<PathBuf> {
        let path = self.0.join("control.sock");
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            let what =
                format!("{} is too long for a socket: {} bytes", path.display(), path.as_os_str().len());
            return Err(Fault::new(Code::Usage, what).fix("choose a shorter --data-dir"));
        }
        Ok(path)
    }

    /// Whether `init` has been here.
    pub fn is_initialised(&self) -> bool {
        self.node_key().exists()
    }

    /// Refuses a directory without a node.
    pub fn require_initialised(&self) -> Outcome<()> {
        if self.is_initialised() {
            return Ok(());
        }
        Err(Fault::new(Code::NotFound, format!("{} has no node", self.0.display()))
            .fix(format!("midplane --data-dir {} init", self.0.display())))
    }

    /// Takes the directory for this process.
    pub fn lock(&self, purpose: &str) -> Outcome<Lock> {
        let path = self.0.join("lock");
        let fail = |error: std::io::Error| Fault::io(format!("cannot lock {}", self.0.display()), &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = (&mut file).take(HOLDER_MAX).read_to_string(&mut holder);
            return Err(Fault::new(
                Code::Locked,
                format!("the data directory {} is in use by {}", self.0.display(), holder.trim()),
            )
            .fix("talk to the node that runs there without `run`, or use --data-dir for a second node"));
        }
        file.set_len(0).map_err(fail)?;
        file.rewind().map_err(fail)?;
        writeln!(file, "pid {} ({purpose})", std::process::id()).map_err(fail)?;
        Ok(Lock { _file: file })
    }
}

/// The directory is this process's until this is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Makes the directory private.
pub fn prepare(directory: &Directory) -> Outcome<()> {
    files::private_directory(directory.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_first() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(temporary.path());
        let lock = directory.lock("midplane run").unwrap();
        let fault = directory.lock("midplane run").unwrap_err();
        assert_eq!(fault.code, Code::Locked);
        assert!(fault.what.contains(&format!("pid {} (midplane run)", std::process::id())), "{fault}");
        drop(lock);
        directory.lock("again").unwrap();
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_refused() {
        assert!(Directory::new("/short").socket().is_ok());
        assert_eq!(Directory::new("x".repeat(120)).socket().unwrap_err().code, Code::Usage);
    }
}
