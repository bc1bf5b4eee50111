//! `midplane diff`: what a manifest would change on a node, before anything is sent there.

use std::path::{Path, PathBuf};

use super::Global;
use super::apply;
use super::client::{ASK, Target, ask, block_on};
use crate::decisions::changes::{self, Changes, Rights, Side};
use crate::decisions::cose;
use crate::words::control::{Request, SignedManifest, Status};
use crate::words::count::count;
use crate::words::objects::{Manifest, Plugin};
use crate::words::{Code, Outcome, Trust};

/// Arguments of `midplane diff`.
#[derive(clap::Args)]
pub(super) struct Diff {
    /// A manifest in TOML, or one that is signed
    manifest: PathBuf,
    /// Compare with this generation of the history [default: the one in force]
    #[arg(long, value_name = "VERSION")]
    from: Option<u64>,
}

/// What differs from which generation.
#[derive(serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Difference {
    /// The generation that it is compared with; 0 where nothing was ever applied.
    pub(super) from: u64,
    #[serde(flatten)]
    pub(super) changes: Changes,
}

/// What a manifest says, whichever form it is in.
pub(super) struct Wanted {
    plugins: Vec<Plugin>,
    strangers: Trust,
    probation_ms: u64,
}

impl Diff {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let wanted = wanted(&self.manifest)?;
        let target = Target::from(global);
        let difference = block_on(global.timeout.or(Some(ASK)), against(&target, self.from, &wanted))?;
        global.out().report(&difference, text);
        Ok(())
    }
}

impl From<&crate::words::source::Resolved> for Wanted {
    fn from(resolved: &crate::words::source::Resolved) -> Self {
        let (strangers, probation_ms) = (resolved.strangers, resolved.probation_ms);
        Self { plugins: resolved.plugins.clone(), strangers, probation_ms }
    }
}

impl From<Manifest> for Wanted {
    fn from(manifest: Manifest) -> Self {
        let Manifest { plugins, strangers, probation_ms, .. } = manifest;
        Self { plugins, strangers, probation_ms }
    }
}

/// Reads a manifest in either form.
fn wanted(path: &Path) -> Outcome<Wanted> {
    if apply::is_source(path) { Ok((&apply::read(path)?).into()) } else { signed(&apply::signed(path)?) }
}

/// What a signed manifest says. Whether its keys may sign is for the node to judge.
pub(super) fn signed(bytes: &[u8]) -> Outcome<Wanted> {
    Ok(cose::verify::<Manifest>(bytes)?.decode()?.into())
}

/// What would change on the node, against the generation in force or another one that it keeps. Nothing changes by it.
pub(super) async fn against(target: &Target, from: Option<u64>, wanted: &Wanted) -> Outcome<Difference> {
    let status: Status = ask(target.clone(), &Request::Status).await?;
    let kept: SignedManifest = ask(target.clone(), &Request::Manifest { version: from }).await?;
    compared(&status, &kept, wanted)
}

/// The rights that would be gained against the generation in force, by slot. Nothing is gained where nothing was ever applied: there is
/// nothing to compare with, and whoever gives a node its first manifest means all of it.
pub(super) async fn gains(target: &Target, wanted: &Wanted) -> Outcome<Vec<Rights>> {
    let status: Status = ask(target.clone(), &Request::Status).await?;
    let kept = ask(target.clone(), &Request::Manifest { version: None }).await;
    let difference = match kept {
        Ok(kept) if SignedManifest::default() == kept => return Ok(Vec::new()),
        Ok(kept) => compared(&status, &kept, wanted)?,
        // What the node was given is lost, and a new manifest is what repairs it: every right in it is news.
        Err(fault) if matches!(fault.code, Code::BadObject | Code::DigestMismatch | Code::NotFound) => {
            compared(&status, &SignedManifest::default(), wanted)?
        }
        Err(fault) => return Err(fault),
    };
    Ok(difference.changes.gains)
}

fn compared(status: &Status, kept: &SignedManifest, wanted: &Wanted) -> Outcome<Difference> {
    let old = match kept.signed.as_slice() {
        [] => None,
        signed => Some(self::signed(signed)?),
    };
    let old = old.as_ref().map(Wanted::side);
    let changes = changes::between(old, wanted.side(), &status.label, &status.tags);
    Ok(Difference { from: kept.version, changes })
}

impl Wanted {
    pub(super) fn side(&self) -> Side<'_> {
        Side { plugins: &self.plugins, strangers: self.strangers, probation_ms: self.probation_ms }
    }
}

fn text(difference: &Difference) -> String {
    let Difference { from, changes } = difference;
    let against = match from {
        0 => "nothing was applied on this node yet".to_owned(),
        from => format!("compared with generation {from}"),
    };
    if changes.is_empty() {
        return format!("{against}: nothing would change on this node");
    }
    let mut lines = vec![against];
    lines.extend(changes.lines().into_iter().map(|line| format!("  {line}")));
    if !changes.unchanged.is_empty() {
        lines.push(format!("  unchanged {}", count(changes.unchanged.len(), "slot")));
    }
    if *from > 0 && !changes.gains.is_empty() {
        lines.push("rights are gained: `midplane apply` asks, or takes --allow-grants".to_owned());
    }
    lines.join("\n")
}
