//! Claims: those this node makes for the names it serves, and those of others that it has verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::Identity;
use crate::decisions::{cose, update};
use crate::policy::routing;
use crate::words::objects::rules::is_label;
use crate::words::objects::{Claim, Manifest, Membership};
use crate::words::{Code, Fault, Name, NodeId, Outcome};

/// Life of a claim. A node that vanishes without a word is forgotten after this at the latest.
const LIFE_MS: u64 = 600_000;
/// A claim is made anew when this much of its life is over.
pub const RENEW_MS: u64 = LIFE_MS / 2;
/// Claims of others that are kept.
const LEARNED_MOST: usize = 4_096;
/// Largest proof that is looked at.
const PROOF_MAX: usize = 12 << 10;

/// The claims of other nodes that were verified here.
#[derive(Default)]
pub struct Claims {
    learned: Mutex<BTreeMap<(Name, NodeId), Learned>>,
}

struct Learned {
    serial: u64,
    expires: u64,
    label: Option<String>,
}

/// What the checks of a claim need to know.
pub struct Rules<'a> {
    /// Whose mesh.
    pub trusted: &'a update::Trusted,
    /// What the manifest lets nodes serve.
    pub manifest: &'a Manifest,
    /// Unix ms.
    pub now: u64,
}

impl Claims {
    /// Verifies a claim that routing presents and remembers it.
    pub fn learn(&self, claim: &routing::Claim, rules: &Rules<'_>) -> Outcome<()> {
        if claim.proof.len() > PROOF_MAX {
            let what = format!(
                "claim for {} has a proof of {} bytes; the limit is {PROOF_MAX}",
                claim.name,
                claim.proof.len()
            );
            return Err(Fault::new(Code::TooLarge, what));
        }
        let allowed =
            |membership: &Membership, name: &Name| manifest_allows(rules.manifest, membership, name);
        let (proven, _) = update::accept_claim(rules.trusted, &claim.proof, rules.now, &allowed)?;
        let same = proven.name.as_str() == claim.name
            && proven.node.to_string() == claim.node
            && proven.serial == claim.serial
            && proven.expires == claim.expires;
        if !same {
            return Err(Fault::new(
                Code::BadObject,
                format!("claim for {} does not say what its proof says", claim.name),
            ));
        }
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.retain(|_, known| known.expires > rules.now);
        let key = (proven.name, proven.node);
        if !learned.contains_key(&key) && learned.len() >= LEARNED_MOST {
            return Err(Fault::new(
                Code::Busy,
                format!("{LEARNED_MOST} claims are known; no more are taken"),
            ));
        }
        let known = learned.entry(key).or_insert(Learned { serial: 0, expires: 0, label: None });
        if proven.serial >= known.serial {
            *known = Learned { serial: proven.serial, expires: proven.expires, label: proven.label };
        }
        Ok(())
    }

    /// Whether this node has a verified, unexpired claim that the other serves the name.
    pub fn holds(&self, name: &Name, node: &NodeId, now: u64) -> bool {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.get(&(name.clone(), *node)).is_some_and(|known| known.expires > now)
    }

    /// The serial of the newest claim of the other for the name.
    pub fn serial(&self, name: &Name, node: &NodeId, now: u64) -> Option<u64> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let known = learned.get(&(name.clone(), *node)).filter(|known| known.expires > now)?;
        Some(known.serial)
    }

    /// Forgets the claims of some nodes.
    pub fn forget(&self, gone: impl Fn(&NodeId) -> bool) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.retain(|(_, node), _| !gone(node));
    }

    /// The nodes that claim their own names, and what they call themselves.
    pub fn nodes(&self, now: u64) -> Vec<(NodeId, Option<String>)> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let own = learned.iter().filter(|((name, _), known)| name.is_reserved() && known.expires > now);
        own.map(|((_, node), known)| (*node, known.label.clone())).collect()
    }

    /// The names that others claim, each once.
    pub fn names(&self, now: u64) -> BTreeSet<Name> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.iter().filter(|(_, known)| known.expires > now).map(|((name, _), _)| name.clone()).collect()
    }
}

/// Whether the manifest itself places the name on the node: by tags, which the membership proves. Labels prove nothing.
fn manifest_allows(manifest: &Manifest, membership: &Membership, name: &Name) -> bool {
    manifest.plugins.iter().any(|plugin| {
        plugin.names.contains(name)
            && plugin.on.labels.is_empty()
            && plugin.on.tags.iter().all(|tag| membership.tags.contains(tag))
    })
}

/// Makes the claim that this node serves a name.
pub fn make(identity: &Identity, name: &Name, now: u64) -> Outcome<routing::Claim> {
    let expires = now.saturating_add(LIFE_MS);
    let node = identity.id;
    let label = name.is_reserved().then(|| identity.label.clone()).filter(|label| is_label(label));
    let mesh = identity.mesh;
    let claim = Claim { mesh, node, name: name.clone(), label, serial: now, issued: now, expires };
    let signed = cose::sign(&claim, &[&identity.key])?;
    let proof = update::pack_proof(&signed, &identity.membership_signed)?;
    Ok(routing::Claim { name: name.to_string(), node: node.to_string(), serial: now, expires, proof })
}
