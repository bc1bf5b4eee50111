//! `midplane rollback`: an earlier generation in force again, at once; on this node alone, or signed anew for the whole mesh.

use super::Global;
use super::apply::{self, APPLY, slots};
use super::client::{Target, ask, block_on};
use crate::clock;
use crate::decisions::cose;
use crate::decisions::update;
use crate::store::directory::Directory;
use crate::store::keys;
use crate::store::trust::TrustFiles;
use crate::words::control::{Applied, GenerationReport, Request, SignedManifest, Status};
use crate::words::objects::Manifest;
use crate::words::{Code, Fault, Outcome};

/// Arguments of `midplane rollback`.
#[derive(clap::Args)]
pub(super) struct Rollback {
    /// A generation of the history [default: the one before that which is in force]
    #[arg(value_name = "VERSION")]
    generation: Option<u64>,
    /// Sign what it said as the next version, which other nodes take too; needs a key that may deploy
    #[arg(long)]
    sign: bool,
}

impl Rollback {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let time = global.timeout.or(Some(APPLY));
        if self.sign {
            let (version, applied) = block_on(time, self.sign_again(global))?;
            global.out().report(&applied, |applied| signed(version, applied));
            return Ok(());
        }
        let request = Request::Rollback { version: self.generation };
        let applied: Applied = block_on(time, ask(global, &request))?;
        global.out().report(&applied, text);
        Ok(())
    }

    /// Signs the content of a kept manifest as the next version and applies it; also says which one it was.
    async fn sign_again(&self, global: &Global) -> Outcome<(u64, Applied)> {
        let target = Target::from(global);
        let key = apply::signer(global)?;
        let wanted = match self.generation {
            Some(version) => version,
            None => before(&ask::<Vec<GenerationReport>>(target.clone(), &Request::History).await?)?,
        };
        let kept: SignedManifest = ask(target.clone(), &Request::Manifest { version: Some(wanted) }).await?;
        let old = judged(&global.directory(), wanted, &kept.signed)?;
        let status: Status = ask(target.clone(), &Request::Status).await?;
        let created = clock::now_ms();
        let expires = created.saturating_add(old.expires.saturating_sub(old.created));
        let manifest = Manifest { version: status.floor.saturating_add(1), created, expires, ..old };
        let applied = apply::send(&target, &cose::sign(&manifest, &[&key])?, true).await?;
        Ok((wanted, applied))
    }
}

/// The generation before the one in force.
fn before(history: &[GenerationReport]) -> Outcome<u64> {
    let nothing = |what: &str| {
        Fault::new(Code::NotFound, what).fix("`midplane history` lists what is kept; give a version of it")
    };
    let in_force = history.iter().find(|row| row.in_force).ok_or_else(|| nothing("nothing is in force"))?;
    let before = history.iter().map(|row| row.version).filter(|version| *version < in_force.version).max();
    before.ok_or_else(|| nothing("nothing from before the generation in force is kept"))
}

/// What a kept manifest says. Whoever signs it again vouches for it everywhere, and the node that sent it may lie: so it has to be signed
/// already, by keys that may deploy by the root of the node here.
fn judged(directory: &Directory, version: u64, signed: &[u8]) -> Outcome<Manifest> {
    let trust = TrustFiles::new(directory.clone(), &keys::load(&directory.node_key())?).load()?;
    let roots: Vec<&[u8]> = trust.roots.iter().map(|root| root.as_slice()).collect();
    Ok(update::restore_manifest(&update::restore_roots(&roots)?, version, signed)?.object)
}

fn signed(version: u64, applied: &Applied) -> String {
    let Applied { from, to, .. } = applied;
    let mut lines =
        vec![format!("generation {to} is in force and says what {version} said; before it ran {from}")];
    lines.extend(slots(applied));
    lines.join("\n")
}

fn text(applied: &Applied) -> String {
    let Applied { from, to, .. } = applied;
    let mut lines = vec![match applied.instead_of {
        _ if from == to => format!("generation {to} is in force as it was signed"),
        Some(newest) => {
            format!("generation {to} is in force again, held instead of {newest}; before it ran {from}")
        }
        None => format!("generation {to} is in force again, and nothing is held; before it ran {from}"),
    }];
    lines.extend(slots(applied));
    if !applied.swaps_ended.is_empty() {
        lines.push(format!("  no longer swapped: {}", applied.swaps_ended.join(", ")));
    }
    if let Some(newest) = applied.instead_of {
        lines.push(format!(
            "  the next manifest that is applied ends the hold, or `midplane rollback {newest}`"
        ));
    }
    lines.join("\n")
}
