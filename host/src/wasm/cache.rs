//! Compiled code on disk, and the only place that maps it.
//!
//! `.cwasm` is native code, and a flipped byte in it is executed without complaint. So each file carries a keyed MAC
//! over everything that matters, is read into memory, and is mapped only when the MAC holds. The key never leaves the node;
//! native code from anywhere else is never accepted.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use subtle::ConstantTimeEq;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile::{COMPONENT_MAX, Compiler};
use super::engine::{Engines, Kind};
use super::preflight;
use crate::store::files;
use crate::words::objects;
use crate::words::{Code, Digest, Fault, Outcome};

/// Length of the MAC at the head of each file.
const MAC: usize = 32;
/// Largest file that is read.
const FILE_MAX: u64 = COMPONENT_MAX * 8 + MAC as u64;

/// A component's code, mapped for the engine that runs it.
pub struct Compiled {
    /// Which engine that is.
    pub kind: Kind,
    /// The component.
    pub component: Component,
}

impl Compiled {
    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        self.component.engine()
    }
}

/// Compiled components of this node.
pub struct Cache {
    directory: PathBuf,
    key: [u8; 32],
    engines: Engines,
    compiler: Compiler,
    /// Code that somebody holds, so that many plugins of one component share it.
    held: Mutex<HashMap<(Digest, Kind), Weak<Compiled>>>,
}

impl Cache {
    /// `secret` is bytes that only this node knows; `directory` is made if it is missing.
    pub fn open(directory: PathBuf, secret: &[u8], engines: Engines, compiler: Compiler) -> Outcome<Self> {
        files::private_directory(&directory)?;
        let key = blake3::derive_key("midplane 2026 compiled code", secret);
        Ok(Self { directory, key, engines, compiler, held: Mutex::default() })
    }

    /// The code of a component for what a plugin of this kind is: what somebody holds, or the file of it. None: it has to be
    /// [compiled](Cache::compile). Only what is valid was ever compiled, so code that is found needs no component beside it.
    pub fn find(&self, world: objects::Kind, digest: Digest) -> Outcome<Option<Arc<Compiled>>> {
        for &kind in preflight::engines(world) {
            let held = self.held().get(&(digest, kind)).and_then(Weak::upgrade);
            if let Some(compiled) = held {
                return Ok(Some(compiled));
            }
            let (path, context) = self.place(kind, digest)?;
            let Some(file) = self.read(&path, &context) else { continue };
            match map(self.engines.get(kind)?, file.split_at(MAC).1) {
                Ok(component) => return Ok(Some(self.hold(digest, Compiled { kind, component }))),
                Err(error) => tracing::warn!(%error, path = %path.display(), "cached code is not usable"),
            }
        }
        Ok(None)
    }

    /// Compiles a component for what a plugin of this kind is, and keeps the code.
    ///
    /// # Errors
    /// `too-large` when it does not fit a place of the pool, and those of [`Compiler::compile`].
    pub async fn compile(&self, world: objects::Kind, digest: Digest, wasm: &[u8]) -> Outcome<Arc<Compiled>> {
        let (kind, code) = self.compiler.compile(world, wasm).await?;
        let (path, context) = self.place(kind, digest)?;
        // The compiler has no pool; only here it shows that a component has more tables or memories than a place in one.
        let component = map(self.engines.get(kind)?, &code).map_err(|error| {
            // A breakdown follows in lines of its own.
            let why = format!("{error:#}");
            let why = why.split("; breakdown").next().unwrap_or_default();
            Fault::new(Code::TooLarge, format!("component does not fit this node: {why}"))
        })?;
        let mut file = Vec::with_capacity(MAC + code.len());
        file.extend_from_slice(self.mac(&context, &code).as_bytes());
        file.extend_from_slice(&code);
        // A cache that cannot be written costs time, not correctness.
        if let Err(error) = files::replace(&path, &file, 0o600) {
            tracing::warn!(%error, "compiled code was not kept");
        }
        Ok(self.hold(digest, Compiled { kind, component }))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(Digest, Kind), Weak<Compiled>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, digest: Digest, compiled: Compiled) -> Arc<Compiled> {
        let compiled = Arc::new(compiled);
        let mut held = self.held();
        held.retain(|_, compiled| compiled.strong_count() > 0);
        held.insert((digest, compiled.kind), Arc::downgrade(&compiled));
        compiled
    }

    /// Where a component's code lies, and what its MAC covers besides the code.
    fn place(&self, kind: Kind, digest: Digest) -> Outcome<(PathBuf, String)> {
        let compatibility = self.engines.compatibility(kind)?;
        let path = self.directory.join(format!("{digest}.{}.{compatibility}", kind.as_str()));
        Ok((path, format!("{digest} {} {compatibility}", kind.as_str())))
    }

    /// The file with the code behind its MAC, if that holds; a file that does not hold is deleted.
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
            // At once: what grows leaves behind what it has grown out of.
            let mut bytes = Vec::with_capacity(usize::try_from(status.len()).ok()?);
            file.by_ref().take(FILE_MAX).read_to_end(&mut bytes).ok()?;
            let (mac, code) = bytes.split_at_checked(MAC)?;
            let holds: bool = self.mac(context, code).as_bytes()[..].ct_eq(mac).into();
            holds.then_some(bytes)
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
