//! What decides about trust: roots, membership, floors, and which generation runs.
//!
//! Two small files, each written whole and sealed with a key derived from the node's, so that neither a crash nor another user's
//! editor can leave half of one. Floors are raised before what they protect takes effect.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use subtle::ConstantTimeEq;

use super::directory::Directory;
use super::files;
use crate::words::{Code, Digest, Fault, Outcome};

/// A root of 64 KiB for every year of a long life still fits.
const FILE_MAX: u64 = 8 << 20;
const MAC: usize = 32;
/// Generations that are kept: the running one and the one before.
const GENERATIONS_KEPT: usize = 2;

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
    /// Latest time seen in anything signed or on the clock, Unix ms. Time never goes back behind it for expiry.
    pub time_floor: u64,
}

/// Which generation runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Current {
    /// Manifest version.
    pub version: u64,
    /// Digest of the signed manifest.
    pub digest: Digest,
    /// When it was published, Unix ms.
    pub since: u64,
}

/// Reads and writes the files.
pub struct TrustFiles {
    directory: Directory,
    key: [u8; 32],
}

impl TrustFiles {
    /// Seals with a key that is derived from the node's.
    pub fn new(directory: Directory, node_key: &SigningKey) -> Self {
        Self { directory, key: blake3::derive_key("midplane 2026 trust files", node_key.as_bytes()) }
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
        files::private_directory(&self.directory.generations())?;
        files::replace(&self.generation(version), signed, 0o600)
    }

    /// Makes a kept manifest the one that runs, durably, and forgets all but the newest two.
    pub fn publish(&self, current: &Current) -> Outcome<()> {
        self.write(&self.directory.path().join("current"), current)?;
        let Ok(entries) = std::fs::read_dir(self.directory.generations()) else { return Ok(()) };
        let mut versions: Vec<u64> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".manifest")?.parse().ok())
            .filter(|version| *version <= current.version)
            .collect();
        versions.sort_unstable();
        for version in versions.iter().rev().skip(GENERATIONS_KEPT) {
            let _ = std::fs::remove_file(self.generation(*version));
        }
        Ok(())
    }

    /// The generation that runs, with its signed manifest.
    pub fn current(&self) -> Outcome<Option<(Current, Vec<u8>)>> {
        let Some(current) = self.read::<Current>(&self.directory.path().join("current"))? else {
            return Ok(None);
        };
        let path = self.generation(current.version);
        let signed = files::read_limited(&path, FILE_MAX)?
            .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is missing", path.display())))?;
        if Digest::of(&signed) != current.digest {
            return Err(Fault::new(
                Code::DigestMismatch,
                format!("{} is not what was published", path.display()),
            ));
        }
        Ok(Some((current, signed)))
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
        files::replace(path, &bytes, 0o600)
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

    #[test]
    fn the_pointer_decides_and_two_generations_are_kept() {
        let (temporary, files) = files();
        assert!(files.current().unwrap().is_none());
        for version in 1..=4_u64 {
            let signed = format!("manifest {version}").into_bytes();
            files.keep_generation(version, &signed).unwrap();
            files.publish(&Current { version, digest: Digest::of(&signed), since: 0 }).unwrap();
        }
        files.keep_generation(5, b"not published").unwrap();
        let (current, signed) = files.current().unwrap().unwrap();
        assert_eq!((current.version, signed), (4, b"manifest 4".to_vec()));
        let mut kept: Vec<_> = std::fs::read_dir(temporary.path().join("generations"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, ["3.manifest", "4.manifest", "5.manifest"]);
        std::fs::write(temporary.path().join("generations/4.manifest"), "other").unwrap();
        assert_eq!(files.current().unwrap_err().code, Code::DigestMismatch);
    }
}
