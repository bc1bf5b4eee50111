//! What decides about trust: roots, membership, floors, and which generation runs.
//!
//! Two small files, each written whole and sealed with a key derived from the node's, so that neither a crash nor another user's
//! editor can leave half of one. Floors are raised before what they protect takes effect.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use subtle::ConstantTimeEq;

use super::current::{Current, Past};
use super::directory::Directory;
use super::disk::Disk;
use super::files;
use crate::words::{Code, Digest, Fault, Outcome};

/// A root of 64 KiB for every year of a long life still fits.
const FILE_MAX: u64 = 8 << 20;
const MAC: usize = 32;

/// The decisive state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrustState {
    /// Signed roots, oldest first. Empty before the node belongs to a mesh.
    pub roots: Vec<ByteBuf>,
    /// This node's signed membership.
    pub membership: Option<ByteBuf>,
    /// Highest manifest version that was ever accepted.
    pub manifest_floor: u64,
    /// When the last swap that was taken was signed, Unix ms; only newer ones are taken.
    #[serde(default)]
    pub swap_floor: u64,
    /// Latest time seen in anything signed or on the clock, Unix ms. Time never goes back behind it for expiry.
    pub time_floor: u64,
}

/// Reads and writes the files.
pub struct TrustFiles {
    directory: Directory,
    key: [u8; 32],
    disk: Disk,
}

impl TrustFiles {
    /// Seals with a key that is derived from the node's.
    pub fn new(directory: Directory, node_key: &SigningKey) -> Self {
        Self::on(Disk::default(), directory, node_key)
    }

    /// The same on a given disk.
    pub fn on(disk: Disk, directory: Directory, node_key: &SigningKey) -> Self {
        let key = blake3::derive_key("midplane 2026 trust files", node_key.as_bytes());
        Self { directory, key, disk }
    }

    /// The state; empty when there is none yet.
    pub fn load(&self) -> Outcome<TrustState> {
        Ok(self.read(&self.directory.trust())?.unwrap_or_default())
    }

    /// Keeps the state, durably.
    pub fn save(&self, state: &TrustState) -> Outcome<()> {
        self.write(&self.directory.trust(), state)
    }

    /// Keeps a signed manifest, durably. It does not run before [`TrustFiles::publish`].
    pub fn keep_generation(&self, version: u64, signed: &[u8]) -> Outcome<()> {
        files::private_directory_on(&self.disk, &self.directory.generations())?;
        files::replace_on(&self.disk, &self.generation(version), signed, 0o600)
    }

    /// Makes a kept manifest the one that runs, durably, and forgets those that it does not name. One with a version above all of them is
    /// about to be published, and stays.
    pub fn publish(&self, current: &Current) -> Outcome<()> {
        self.write(&self.pointer_path(), current)?;
        let Ok(entries) = std::fs::read_dir(self.directory.generations()) else { return Ok(()) };
        let kept: Vec<u64> = current.versions().collect();
        let newest = kept.iter().copied().max().unwrap_or_default();
        let versions = entries.filter_map(|entry| version(entry.ok()?.file_name().to_str()?));
        for version in versions.filter(|version| *version <= newest && !kept.contains(version)) {
            let _ = self.disk.remove(&self.generation(version));
        }
        Ok(())
    }

    /// The signed manifests that are kept, with their versions: those of the last generations, and one that is about to be published.
    ///
    /// # Errors
    /// `io` when any of them cannot be read: nobody must think that there are fewer.
    pub fn kept(&self) -> Outcome<Vec<(u64, Vec<u8>)>> {
        let directory = self.directory.generations();
        let fail = |error: std::io::Error| Fault::io(format!("cannot list {}", directory.display()), &error);
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let name = entry.map_err(fail)?.file_name();
            if let Some(version) = name.to_str().and_then(version)
                && let Some(signed) = files::read_limited(&self.generation(version), FILE_MAX)?
            {
                kept.push((version, signed));
            }
        }
        kept.sort_unstable_by_key(|(version, _)| *version);
        Ok(kept)
    }

    /// Which generation runs, and which others are kept.
    pub fn pointer(&self) -> Outcome<Option<Current>> {
        self.read(&self.pointer_path())
    }

    /// The generation that runs, with its signed manifest.
    pub fn current(&self) -> Outcome<Option<(Current, Vec<u8>)>> {
        let Some(current) = self.pointer()? else { return Ok(None) };
        let signed = self.signed(current.version, &current.digest)?;
        Ok(Some((current, signed)))
    }

    /// The signed manifest of a generation that ran.
    ///
    /// # Errors
    /// `digest-mismatch` when the file is not what was published, `not-found` when it is gone.
    pub fn past(&self, past: &Past) -> Outcome<Vec<u8>> {
        self.signed(past.version, &past.digest)
    }

    fn signed(&self, version: u64, digest: &Digest) -> Outcome<Vec<u8>> {
        let path = self.generation(version);
        let signed = files::read_limited(&path, FILE_MAX)?
            .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is missing", path.display())))?;
        if Digest::of(&signed) != *digest {
            return Err(Fault::new(
                Code::DigestMismatch,
                format!("{} is not what was published", path.display()),
            ));
        }
        Ok(signed)
    }

    fn pointer_path(&self) -> std::path::PathBuf {
        self.directory.path().join("current")
    }

    fn generation(&self, version: u64) -> std::path::PathBuf {
        self.directory.generations().join(format!("{version}.manifest"))
    }

    fn write<T: Serialize>(&self, path: &std::path::Path, value: &T) -> Outcome<()> {
        let mut body = Vec::new();
        ciborium::into_writer(value, &mut body).map_err(|error| {
            Fault::new(Code::Internal, format!("cannot encode {}: {error}", path.display()))
        })?;
        let mut bytes = blake3::keyed_hash(&self.key, &body).as_bytes().to_vec();
        bytes.extend_from_slice(&body);
        files::replace_on(&self.disk, path, &bytes, 0o600)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, path: &std::path::Path) -> Outcome<Option<T>> {
        let Some(bytes) = files::read_limited(path, FILE_MAX)? else { return Ok(None) };
        let damaged = || {
            Fault::new(Code::BadObject, format!("{} is damaged or was changed by somebody", path.display()))
                .fix("restore it from a backup, or make the node anew with `midplane init` in an empty directory")
        };
        let (mac, body) = bytes.split_at_checked(MAC).ok_or_else(damaged)?;
        let holds: bool = blake3::keyed_hash(&self.key, body).as_bytes()[..].ct_eq(mac).into();
        if !holds {
            return Err(damaged());
        }
        ciborium::de::from_reader_with_recursion_limit(body, 16).map(Some).map_err(|_| damaged())
    }
}

/// The version that a file of a generation is of.
fn version(name: &str) -> Option<u64> {
    name.strip_suffix(".manifest")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, TrustFiles) {
        let temporary = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[1; 32]);
        let files = TrustFiles::new(Directory::new(temporary.path()), &key);
        (temporary, files)
    }

    #[test]
    fn a_changed_byte_is_refused() {
        let (temporary, files) = files();
        assert_eq!(files.load().unwrap(), TrustState::default());
        let state = TrustState { manifest_floor: 7, ..TrustState::default() };
        files.save(&state).unwrap();
        assert_eq!(files.load().unwrap(), state);
        let path = temporary.path().join("trust.cbor");
        let good = std::fs::read(&path).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert_eq!(files.load().unwrap_err().code, Code::BadObject);
        }
    }

    fn past(version: u64, signed: &[u8]) -> Past {
        let (digest, change) = (Digest::of(signed), String::new());
        Past { version, digest, since: 0, signers: vec![], change, settled: true }
    }

    #[test]
    fn the_pointer_decides_and_two_generations_are_kept() {
        let (temporary, files) = files();
        assert!(files.current().unwrap().is_none());
        let kept = || {
            let mut kept: Vec<_> = std::fs::read_dir(temporary.path().join("generations"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            kept.sort();
            kept
        };
        // The third is kept and never published: what ran before the fourth is the second.
        files.keep_generation(3, b"not published").unwrap();
        for version in [1, 2, 4] {
            let signed = format!("manifest {version}").into_bytes();
            files.keep_generation(version, &signed).unwrap();
            let before = files.pointer().unwrap();
            files.publish(&Current::after(before.as_ref(), past(version, &signed))).unwrap();
        }
        files.keep_generation(5, b"not published").unwrap();
        let (current, signed) = files.current().unwrap().unwrap();
        assert_eq!((current.version, signed), (4, b"manifest 4".to_vec()));
        assert_eq!(kept(), ["2.manifest", "4.manifest", "5.manifest"]);
        // Held, it keeps what it is held instead of.
        files.publish(&current.back_to(2, 0).unwrap()).unwrap();
        let (held, signed) = files.current().unwrap().unwrap();
        assert_eq!((held.version, held.instead_of, signed), (2, Some(4), b"manifest 2".to_vec()));
        assert_eq!(kept(), ["2.manifest", "4.manifest", "5.manifest"]);
        let four = held.others.first().unwrap();
        assert_eq!(files.past(four).unwrap(), b"manifest 4");
        std::fs::write(temporary.path().join("generations/4.manifest"), "other").unwrap();
        assert_eq!(files.past(four).unwrap_err().code, Code::DigestMismatch);
        std::fs::write(temporary.path().join("generations/2.manifest"), "other").unwrap();
        assert_eq!(files.current().unwrap_err().code, Code::DigestMismatch);
        std::fs::remove_file(temporary.path().join("generations/2.manifest")).unwrap();
        assert_eq!(files.current().unwrap_err().code, Code::NotFound);
    }
}
