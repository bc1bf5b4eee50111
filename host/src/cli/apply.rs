//! `midplane apply`: from a manifest that people write to one that a node runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::Global;
use super::client::{ASK, Conversation, Target, ask, block_on};
use super::confirm::confirm;
use super::rollout::{self, How, NodeState};
use super::{consent, diff};
use crate::clock;
use crate::decisions::changes::{self, Rights};
use crate::decisions::cose;
use crate::node::control::ITEM_MAX;
use crate::store::{files, keys};
use crate::words::control::{Applied, Request, Status};
use crate::words::count::count;
use crate::words::objects::{BlobRef, Manifest};
use crate::words::source::{self, Resolved};
use crate::words::{Code, Digest, Fault, Outcome};

/// Time for everything: uploading and compiling take the most.
pub(super) const APPLY: Duration = Duration::from_secs(300);
/// Largest manifest source.
const SOURCE_MAX: u64 = 1 << 20;

/// Arguments of `midplane apply`.
#[derive(clap::Args)]
pub(super) struct Apply {
    /// A manifest in TOML, which is signed first, or one that is signed already
    manifest: PathBuf,
    /// Version to sign [default: one above the highest that the node has accepted]
    #[arg(long)]
    version: Option<u64>,
    /// Also write the signed manifest; other nodes apply it as it is, and fetch its components from their peers
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// With a signed manifest: also give the node the components that this manifest in TOML names, for a node that has no peers yet
    #[arg(long, value_name = "MANIFEST")]
    components: Option<PathBuf>,
    /// Let plugins gain rights that they do not have in the generation in force
    #[arg(long)]
    allow_grants: bool,
    #[command(flatten)]
    how: How,
}

/// A manifest's file in either form.
enum Form {
    Source(Resolved),
    Signed(Vec<u8>),
}

/// What applying did, what was granted with it, and how far it has come in the mesh.
#[derive(serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    #[serde(flatten)]
    applied: Applied,
    gains: Vec<Rights>,
    nodes: Vec<NodeState>,
}

impl Apply {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let target = Target::from(global);
        let (form, wanted) = if is_source(&self.manifest) {
            let resolved = read(&self.manifest)?;
            let wanted = diff::Wanted::from(&resolved);
            (Form::Source(resolved), Ok(wanted))
        } else {
            let signed = signed(&self.manifest)?;
            let wanted = diff::signed(&signed);
            (Form::Signed(signed), wanted)
        };
        // Before anything is sent, and with as much time as somebody needs to read it.
        let gains = block_on(global.timeout.or(Some(ASK)), async { diff::gains(&target, &wanted?).await });
        let gains = match gains {
            // Whatever it grants is meant, so what cannot be compared is for the node to judge.
            Err(_) if self.allow_grants => Vec::new(),
            gains => gains?,
        };
        consent::require(&changes::lines(&gains, "gains"), self.allow_grants)?;
        let time = global.timeout.unwrap_or(APPLY);
        let signed = block_on(Some(time), async {
            match form {
                Form::Signed(signed) => {
                    if let Some(components) = &self.components {
                        upload(&target, &read(components)?.blobs).await?;
                    }
                    Ok(signed)
                }
                Form::Source(resolved) => self.sign(global, &target, &resolved).await,
            }
        })?;
        let done = rollout::run(&target, signed, &self.how, global.timeout)?;
        global.out().report(&Report { applied: done.applied, gains, nodes: done.nodes }, |report| {
            let lines = changes::lines(&report.gains, "gains");
            let lines: Vec<String> = lines.iter().map(|line| format!("\n  {line}")).collect();
            let head = if done.taken_back {
                format!("generation {} was tried and taken back", report.applied.to)
            } else {
                text(&report.applied)
            };
            head + &lines.concat() + &rollout::text(&report.nodes)
        });
        done.fault.map_or(Ok(()), Err)
    }

    async fn sign(&self, global: &Global, target: &Target, resolved: &Resolved) -> Outcome<Vec<u8>> {
        let signed = sign(target, resolved, &signer(global)?, self.version).await?;
        if let Some(save) = &self.save {
            files::hand_out(save, &signed)?;
        }
        upload(target, &resolved.blobs).await?;
        Ok(signed)
    }
}

/// Whether a file is a manifest as people write it, and not one that is signed.
pub(super) fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// Reads a manifest that is signed, by whomever.
pub(super) fn signed(path: &Path) -> Outcome<Vec<u8>> {
    let bytes = files::read_limited(path, SOURCE_MAX)?.ok_or_else(|| missing(path))?;
    match cose::verify::<Manifest>(&bytes) {
        Err(fault) if fault.code == Code::BadObject => {
            let what = format!("{} is no signed manifest: {}", path.display(), fault.what);
            Err(Fault { what, ..fault }.fix("the name of a manifest in TOML ends in .toml"))
        }
        _ => Ok(bytes),
    }
}

/// The key that signs manifests.
pub(super) fn signer(global: &Global) -> Outcome<SigningKey> {
    if let Some(key) = &global.key {
        return keys::load(key);
    }
    let directory = global.directory();
    let own = [directory.operator_key(), directory.owner_key()];
    match own.iter().find(|path| path.exists()) {
        Some(path) => keys::load(path),
        None => Err(Fault::new(
            Code::NotFound,
            format!("{} has no key that may sign", directory.path().display()),
        )
        .fix("--key FILE or MIDPLANE_KEY with a key of the owner, or of an operator with the role deploy")),
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
    target: &Target,
    resolved: &Resolved,
    key: &SigningKey,
    version: Option<u64>,
) -> Outcome<Vec<u8>> {
    let status: Status = ask(target.clone(), &Request::Status).await?;
    let version = version.unwrap_or(status.floor.saturating_add(1));
    cose::sign(&resolved.manifest(status.mesh, version, clock::now_ms()), &[key])
}

/// Gives the node the components that it lacks.
pub(super) async fn upload(target: &Target, components: &[(Digest, Vec<u8>)]) -> Outcome<()> {
    let blobs: Vec<BlobRef> = components
        .iter()
        .map(|(digest, bytes)| BlobRef { digest: *digest, length: bytes.len() as u64 })
        .collect();
    let lacks: Vec<Digest> = ask(target.clone(), &Request::Lacks { blobs }).await?;
    for (digest, bytes) in components.iter().filter(|(digest, _)| lacks.contains(digest)) {
        let blob = BlobRef { digest: *digest, length: bytes.len() as u64 };
        let mut conversation = Conversation::start(target.clone(), &Request::PutBlob { blob }).await?;
        for chunk in bytes.chunks(ITEM_MAX / 2) {
            conversation.writer.item(chunk).await?;
        }
        conversation.writer.end().await?;
        conversation.end().await?;
    }
    Ok(())
}

/// Hands the node a signed manifest, to be passed on to its peers or not.
pub(super) async fn send(target: &Target, signed: &[u8], spread: bool) -> Outcome<Applied> {
    if signed.len() > ITEM_MAX {
        return Err(Fault::new(Code::TooLarge, format!("a manifest of {} bytes", signed.len())));
    }
    let mut applied: Applied =
        Conversation::start_with(target.clone(), &Request::Apply { spread }, signed).await?.report().await?;
    confirm(target, None, applied.claim, &mut applied.probation).await?;
    Ok(applied)
}

pub(super) fn missing(path: &Path) -> Fault {
    Fault::new(Code::NotFound, format!("{} is not there", path.display()))
}

fn text(applied: &Applied) -> String {
    if applied.already {
        return format!("generation {} is in force already", applied.to);
    }
    let mut lines = vec![format!("generation {} is in force; before it ran {}", applied.to, applied.from)];
    lines.extend(slots(applied));
    let signers: Vec<String> = applied.signers.iter().map(|key| key.short()).collect();
    lines.push(format!("  signed by {}; published in {} µs", signers.join(", "), applied.publish_us));
    lines.extend(fate(applied));
    if !applied.swaps_ended.is_empty() {
        lines.push(format!("  no longer swapped: {}", applied.swaps_ended.join(", ")));
    }
    if applied.fetched > 0 {
        lines.push(format!("  {} came from peers", count(applied.fetched, "blob")));
    }
    lines.join("\n")
}

/// What becomes of what was in flight, and what the generation still has to show.
pub(super) fn fate(applied: &Applied) -> Vec<String> {
    let mut lines = Vec::new();
    if applied.in_flight > 0 {
        let calls = count(usize::try_from(applied.in_flight).unwrap_or(usize::MAX), "call");
        lines.push(format!(
            "  {calls} in flight went on in what was replaced; `midplane events` has the receipt"
        ));
    }
    if let Some(probation) = &applied.probation {
        let left = probation.left(clock::now_ms());
        lines.push(format!("  on probation for {left} s; what goes wrong meanwhile takes it back"));
    }
    lines
}

/// What became of the slots, in lines.
pub(super) fn slots(applied: &Applied) -> Vec<String> {
    let mut lines = Vec::new();
    for (word, slots) in [
        ("added", &applied.added),
        ("changed", &applied.changed),
        ("removed", &applied.removed),
        ("adjusted", &applied.adjusted),
        ("unchanged", &applied.unchanged),
    ] {
        if !slots.is_empty() {
            lines.push(format!("  {word:<9} {}", slots.join(", ")));
        }
    }
    lines
}
