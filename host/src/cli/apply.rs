//! `midplane apply`: from a manifest that people write to one that a node runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::Global;
use super::client::{Conversation, ask, block_on};
use crate::clock;
use crate::decisions::cose;
use crate::node::control::ITEM_MAX;
use crate::store::directory::Directory;
use crate::store::{files, keys};
use crate::words::control::{Applied, Request, Status};
use crate::words::objects::BlobRef;
use crate::words::source::{self, Resolved};
use crate::words::{Code, Digest, Fault, Outcome};

/// Time for everything: uploading and compiling take the most.
const APPLY: Duration = Duration::from_secs(300);
/// Largest manifest source.
const SOURCE_MAX: u64 = 1 << 20;

/// Arguments of `midplane apply`.
#[derive(clap::Args)]
pub(super) struct Apply {
    /// A manifest in TOML, which is signed first, or one that is signed already
    manifest: PathBuf,
    /// The key to sign with [default: operator.key, then owner.key of the data directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Version to sign [default: one above the highest that the node has accepted]
    #[arg(long)]
    version: Option<u64>,
    /// Also write the signed manifest; other nodes apply it as it is, and fetch its components from their peers
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Apply {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let directory = global.directory();
        let applied = block_on(Some(global.timeout.unwrap_or(APPLY)), async {
            if self.manifest.extension().is_none_or(|extension| extension != "toml") {
                let signed = files::read_limited(&self.manifest, SOURCE_MAX)?
                    .ok_or_else(|| missing(&self.manifest))?;
                return send(&directory, &signed).await;
            }
            let resolved = read(&self.manifest)?;
            let key = self.key(&directory)?;
            let signed = sign(&directory, &resolved, &key, self.version).await?;
            if let Some(save) = &self.save {
                files::replace(save, &signed, 0o644)?;
            }
            upload(&directory, &resolved).await?;
            send(&directory, &signed).await
        })?;
        global.out().report(&applied, text);
        Ok(())
    }

    fn key(&self, directory: &Directory) -> Outcome<SigningKey> {
        if let Some(key) = &self.key {
            return keys::load(key);
        }
        let own = [directory.operator_key(), directory.owner_key()];
        match own.iter().find(|path| path.exists()) {
            Some(path) => keys::load(path),
            None => Err(Fault::new(
                Code::NotFound,
                format!("{} has no key that may sign", directory.path().display()),
            )
            .fix("--key FILE with a key of the owner, or of an operator with the role deploy")),
        }
    }
}

/// Reads a manifest's source and the components it names.
pub(super) fn read(path: &Path) -> Outcome<Resolved> {
    let bytes = files::read_limited(path, SOURCE_MAX)?.ok_or_else(|| missing(path))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Fault::new(Code::BadManifest, format!("{} is not text", path.display())))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let source = source::parse(&text, &name)?;
    let base = path.parent().unwrap_or(Path::new("."));
    source::resolve(&source, base, &mut |path| std::fs::read(path))
}

/// Fixes and signs the manifest for the mesh of the node.
pub(super) async fn sign(
    directory: &Directory,
    resolved: &Resolved,
    key: &SigningKey,
    version: Option<u64>,
) -> Outcome<Vec<u8>> {
    let status: Status = ask(directory, &Request::Status).await?;
    let version = version.unwrap_or(status.floor + 1);
    cose::sign(&resolved.manifest(status.mesh, version, clock::now_ms()), &[key])
}

/// Gives the node the components that it lacks.
pub(super) async fn upload(directory: &Directory, resolved: &Resolved) -> Outcome<()> {
    let blobs: Vec<BlobRef> = resolved
        .blobs
        .iter()
        .map(|(digest, bytes)| BlobRef { digest: *digest, length: bytes.len() as u64 })
        .collect();
    let lacks: Vec<Digest> = ask(directory, &Request::Lacks { blobs }).await?;
    for (digest, bytes) in resolved.blobs.iter().filter(|(digest, _)| lacks.contains(digest)) {
        let blob = BlobRef { digest: *digest, length: bytes.len() as u64 };
        let mut conversation = Conversation::start(directory, &Request::PutBlob { blob }).await?;
        for chunk in bytes.chunks(ITEM_MAX / 2) {
            conversation.writer.item(chunk).await?;
        }
        conversation.writer.end().await?;
        conversation.end().await?;
    }
    Ok(())
}

/// Hands the node a signed manifest.
pub(super) async fn send(directory: &Directory, signed: &[u8]) -> Outcome<Applied> {
    if signed.len() > ITEM_MAX {
        return Err(Fault::new(Code::TooLarge, format!("a manifest of {} bytes", signed.len())));
    }
    let mut conversation = Conversation::start(directory, &Request::Apply).await?;
    conversation.writer.item(signed).await?;
    conversation.report().await
}

fn missing(path: &Path) -> Fault {
    Fault::new(Code::NotFound, format!("{} is not there", path.display()))
}

fn text(applied: &Applied) -> String {
    let mut lines = vec![format!("generation {} is in force; before it ran {}", applied.to, applied.from)];
    for (word, slots) in [
        ("added", &applied.added),
        ("changed", &applied.changed),
        ("removed", &applied.removed),
        ("unchanged", &applied.unchanged),
    ] {
        if !slots.is_empty() {
            lines.push(format!("  {word:<9} {}", slots.join(", ")));
        }
    }
    let signers: Vec<String> = applied.signers.iter().map(|key| key.short()).collect();
    lines.push(format!("  signed by {}; published in {} µs", signers.join(", "), applied.publish_us));
    if applied.fetched > 0 {
        lines.push(format!("  {} blobs came from peers", applied.fetched));
    }
    lines.join("\n")
}
