//! Collection: what nobody needs goes.
//!
//! A blob stays while somebody holds a lease on it, while it is pinned, and while whoever collects says that it is needed. Leases are
//! looked at first, and pins and needs after them, for each blob under the lock without which no lease can be taken: whoever wants to keep
//! a blob takes a lease before he looks whether it is here, and holds it until the need is written down, so that a blob is either kept or
//! was never found.

use std::path::Path;

use super::{Blobs, SHARD, TREE, beside, names};
use crate::words::objects::BlobRef;
use crate::words::{Digest, Fault, Outcome};

/// Whether something needs a blob, at the moment of the question.
pub type Needed<'a> = &'a dyn Fn(&Digest) -> Outcome<bool>;

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that are gone.
    pub freed: Vec<BlobRef>,
    /// Fetches that nobody goes on with; the length is what they took on the disk.
    pub unfinished: Vec<BlobRef>,
    /// Blobs that stay because of a pin or because they are needed.
    pub kept: u64,
    /// Blobs that stay because of a lease alone.
    pub leased: u64,
}

impl Blobs {
    /// Takes away what is not needed, or only says what would go. Needs no room on the disk.
    ///
    /// # Errors
    /// `io`; what was freed until then is gone, and doing it again goes on.
    pub fn collect(&self, needed: Needed<'_>, now: u64, dry_run: bool) -> Outcome<Collected> {
        self.leases().until.retain(|_, until| *until > now);
        let mut collected = Collected::default();
        for blob in self.all()? {
            self.collect_one(blob, needed, dry_run, &mut collected)?;
        }
        self.collect_unfinished(&mut collected, dry_run)?;
        if !dry_run {
            self.collect_trees()?;
        }
        Ok(collected)
    }

    /// The same for one blob, as soon as it is known that somebody has let go of it.
    ///
    /// # Errors
    /// `io`; then it is still there.
    pub fn collect_only(&self, digest: &Digest, needed: Needed<'_>, now: u64) -> Outcome<Collected> {
        self.leases().until.retain(|_, until| *until > now);
        let mut collected = Collected::default();
        if let Some(length) = self.length(digest) {
            self.collect_one(BlobRef { digest: *digest, length }, needed, false, &mut collected)?;
        }
        Ok(collected)
    }

    fn collect_one(
        &self,
        blob: BlobRef,
        needed: Needed<'_>,
        dry_run: bool,
        collected: &mut Collected,
    ) -> Outcome<()> {
        let leases = self.leases();
        if leases.held.contains_key(&blob.digest) || leases.until.contains_key(&blob.digest) {
            collected.leased += 1;
        } else if self.is_pinned(&blob.digest) || needed(&blob.digest)? {
            collected.kept += 1;
        } else {
            if !dry_run {
                self.remove(&blob.digest).map_err(|error| failed(&blob.digest, &error))?;
            }
            collected.freed.push(blob);
        }
        Ok(())
    }

    fn collect_unfinished(&self, collected: &mut Collected, dry_run: bool) -> Outcome<()> {
        let directory = self.root.join("partial");
        for name in names(&directory)? {
            let Ok(digest) = name.strip_suffix(TREE).unwrap_or(&name).parse::<Digest>() else { continue };
            let leases = self.leases();
            if leases.held.contains_key(&digest) {
                continue;
            }
            let path = directory.join(&name);
            if !name.ends_with(TREE) {
                collected.unfinished.push(BlobRef { digest, length: taken(&path) });
            }
            if !dry_run {
                self.disk.remove(&path).map_err(|error| failed(&digest, &error))?;
            }
        }
        Ok(())
    }

    /// Trees whose blobs are gone: the power went between the two.
    fn collect_trees(&self) -> Outcome<()> {
        for shard in names(&self.root)?.into_iter().filter(|name| name.len() == SHARD) {
            for name in names(&self.root.join(&shard))? {
                let Some(rest) = name.strip_suffix(TREE) else { continue };
                let Ok(digest) = format!("{shard}{rest}").parse::<Digest>() else { continue };
                let leases = self.leases();
                if !leases.held.contains_key(&digest) && self.length(&digest).is_none() {
                    let place = beside(&self.place(&digest));
                    self.disk.remove(&place).map_err(|error| failed(&digest, &error))?;
                }
            }
        }
        Ok(())
    }
}

/// Bytes that a file takes on the disk.
fn taken(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |status| status.blocks() * 512)
}

fn failed(digest: &Digest, error: &std::io::Error) -> Fault {
    Fault::io(format!("cannot take away blob {}", digest.short()), error)
}
