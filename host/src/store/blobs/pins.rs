//! Pins: blobs that stay until somebody says otherwise. A pin is an empty file, so that it is there or not after a crash.

use super::{Blobs, names};
use crate::words::{Digest, Fault, Outcome};

impl Blobs {
    /// Keeps a blob from being collected, durably. Pinning twice is pinning once. False when it was pinned before.
    pub fn pin(&self, digest: &Digest) -> Outcome<bool> {
        let path = self.pin_place(digest);
        let fail = |error: std::io::Error| Fault::io(format!("cannot pin blob {}", digest.short()), &error);
        let new = match self.disk.create(&path, 0o600) {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(fail(error)),
        };
        // Also when it was there: the crash may have come before the sync.
        self.disk.sync_directory(&self.root.join("pins")).map_err(fail)?;
        Ok(new)
    }

    /// Lets a blob be collected, durably. False when it was not pinned.
    pub fn unpin(&self, digest: &Digest) -> Outcome<bool> {
        let fail = |error: std::io::Error| Fault::io(format!("cannot unpin blob {}", digest.short()), &error);
        match self.disk.remove(&self.pin_place(digest)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(fail(error)),
        }
        self.disk.sync_directory(&self.root.join("pins")).map_err(fail)?;
        Ok(true)
    }

    /// Whether it is pinned.
    pub fn is_pinned(&self, digest: &Digest) -> bool {
        self.pin_place(digest).exists()
    }

    /// Every pinned blob, here or not.
    pub fn pins(&self) -> Outcome<Vec<Digest>> {
        Ok(names(&self.root.join("pins"))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn pin_place(&self, digest: &Digest) -> std::path::PathBuf {
        self.root.join("pins").join(digest.to_string())
    }
}
