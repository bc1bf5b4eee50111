//! From the file to what is signed: components become digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Source;
use crate::words::objects::rules;
use crate::words::objects::{BlobRef, Manifest, Plugin};
use crate::words::problems::Problems;
use crate::words::{Code, Digest, Fault, MeshId, Outcome, Trust};

/// A manifest without mesh, version and dates, with the bytes of its components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In the order of the file.
    pub plugins: Vec<Plugin>,
    /// Each component once.
    pub blobs: Vec<(Digest, Vec<u8>)>,
    /// Trust of a peer without a membership.
    pub strangers: Trust,
    /// From signing to expiry.
    pub lifetime_ms: u64,
    /// See [`Manifest::probation_ms`].
    pub probation_ms: u64,
}

impl Resolved {
    /// What is to be signed at `now`.
    pub fn manifest(&self, mesh: MeshId, version: u64, now: u64) -> Manifest {
        Manifest {
            mesh,
            version,
            created: now,
            expires: now.saturating_add(self.lifetime_ms),
            strangers: self.strangers,
            probation_ms: self.probation_ms,
            plugins: self.plugins.clone(),
        }
    }
}

/// Reads the components, whose paths are relative to `base`, the directory of the file, with `read`.
///
/// # Errors
/// `not-found` when components are missing, `bad-manifest` for anything else, with every problem and its line.
pub fn resolve(
    source: &Source,
    base: &Path,
    read: &mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
) -> Outcome<Resolved> {
    let mut problems = Problems::new();
    let mut code = Code::BadManifest;
    let mut files: BTreeMap<PathBuf, Result<BlobRef, String>> = BTreeMap::new();
    let mut blobs: Vec<(Digest, Vec<u8>)> = Vec::new();
    let mut plugins = Vec::new();
    let mut read_at = |path: &Path| match read(path) {
        Ok(bytes) => {
            let blob = BlobRef { digest: Digest::of(&bytes), length: bytes.len() as u64 };
            if !blobs.iter().any(|(digest, _)| *digest == blob.digest) {
                blobs.push((blob.digest, bytes));
            }
            Ok(blob)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            code = Code::NotFound;
            Err(format!("component {} does not exist", path.display()))
        }
        Err(error) => Err(format!("component {} cannot be read: {error}", path.display())),
    };
    for (index, plugin) in source.plugins.iter().enumerate() {
        let path = base.join(&plugin.component);
        match files.entry(path.clone()).or_insert_with(|| read_at(&path)) {
            Ok(blob) => plugins.push(plugin.with(*blob)),
            Err(why) => problems.add(format!("{}: {why}", source.place(index))),
        }
    }
    if problems.is_empty() {
        for problem in rules::problems(&plugins) {
            let place = problem.plugin.map_or_else(|| source.file.clone(), |index| source.place(index));
            problems.add(format!("{place}: {}", problem.what));
        }
    }
    problems.finish(code, &source.file).map_err(|fault| match code {
        Code::NotFound => Fault::fix(fault, "midplane build"),
        _ => fault,
    })?;
    let Source { strangers, lifetime_ms, probation_ms, .. } = *source;
    Ok(Resolved { plugins, blobs, strangers, lifetime_ms, probation_ms })
}
