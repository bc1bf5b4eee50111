//! Compiled code on disk, and the only place that maps it.
//!
//! `.cwasm` is native code, and a flipped byte in it is executed without complaint. So each file carries a keyed MAC
//! over everything that matters, is read into memory, and is mapped only when the MAC holds. The key never leaves the node;
//! native code from anywhere else is never accepted.

use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile::{COMPONENT_MAX, Compiler};
use super::engine::{Engines, Kind, compatibility};
use crate::store::files;
use crate::words::{Code, Digest, Fault, Outcome};

/// Length of the MAC at the head of each file.
const MAC: usize = 32;
/// Largest file that is read.
const FILE_MAX: u64 = COMPONENT_MAX * 8 + MAC as u64;

/// Compiled components of this node.
#[derive(Clone)]
pub struct Cache {
    directory: PathBuf,
    key: [u8; 32],
    compiler: Compiler,
}

impl Cache {
    /// `secret` is bytes that only this node knows; `directory` is made if it is missing.
    pub fn open(directory: PathBuf, secret: &[u8], compiler: Compiler) -> Outcome<Self> {
        files::private_directory(&directory)?;
        Ok(Self { directory, key: blake3::derive_key("midplane 2026 compiled code", secret), compiler })
    }

    /// The component for an engine: from the cache, or compiled and put there.
    pub async fn load(
        &self,
        engines: &Engines,
        kind: Kind,
        digest: Digest,
        wasm: &[u8],
    ) -> Outcome<Component> {
        let engine = engines.get(kind);
        let compatibility = compatibility(engine);
        let path = self.directory.join(format!("{digest}.{}.{compatibility}", kind.as_str()));
        let context = format!("{digest} {} {compatibility}", kind.as_str());
        if let Some(code) = self.read(&path, &context) {
            match map(engine, &code) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(%error, path = %path.display(), "cached code is not usable"),
            }
        }
        let code = self.compiler.compile(kind, wasm).await?;
        // The compiler has no pool; only here it shows that a component has more tables or memories than a place in one.
        let component = map(engine, &code).map_err(|error| {
            Fault::new(Code::TooLarge, format!("component does not fit this node: {error:#}"))
        })?;
        let mut file = Vec::with_capacity(MAC + code.len());
        file.extend_from_slice(self.mac(&context, &code).as_bytes());
        file.extend_from_slice(&code);
        // A cache that cannot be written costs time, not correctness.
        if let Err(error) = files::replace(&path, &file, 0o600) {
            tracing::warn!(%error, "compiled code was not kept");
        }
        Ok(component)
    }

    /// The file's code, if its MAC holds; a file that does not hold is deleted.
    fn read(&self, path: &Path, context: &str) -> Option<Vec<u8>> {
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .ok()?;
        let good = (|| {
            let status = file.metadata().ok()?;
            if !status.is_file() || status.permissions().mode() & 0o077 != 0 || status.len() > FILE_MAX {
                return None;
            }
            let mut bytes = Vec::new();
            file.by_ref().take(FILE_MAX).read_to_end(&mut bytes).ok()?;
            let (mac, code) = bytes.split_at_checked(MAC)?;
            let holds: bool = self.mac(context, code).as_bytes()[..].ct_eq(mac).into();
            holds.then(|| code.to_vec())
        })();
        if good.is_none() {
            tracing::warn!(path = %path.display(), "cached code does not match its MAC and is deleted");
            let _ = std::fs::remove_file(path);
        }
        good
    }

    fn mac(&self, context: &str, code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(context.len() as u64).to_le_bytes());
        hasher.update(context.as_bytes());
        hasher.update(code);
        hasher.finalize()
    }
}

/// Maps native code that this process or, by the MAC, this node compiled.
#[expect(
    unsafe_code,
    reason = "the one place that maps compiled code; every caller has it from the compiler or under the MAC"
)]
fn map(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` comes from `Compiler::compile` in this process or from a file whose keyed MAC, made by this node over
    // such code, was checked on the bytes in memory. Wasmtime checks version and engine settings itself.
    unsafe { Component::deserialize(engine, code) }
}
