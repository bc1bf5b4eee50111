//! Claims: those this node makes for the names it serves, and those of others that it has verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Identity;
use crate::decisions::update::Proven;
use crate::decisions::{cose, update};
use crate::policy::routing;
use crate::words::objects::rules::is_label;
use crate::words::objects::{Claim, Manifest, Membership};
use crate::words::{Code, Digest, Fault, Name, NodeId, Outcome};

/// Life of a claim. A node that vanishes without a word is forgotten after this at the latest.
const LIFE_MS: u64 = 600_000;
/// A claim is made anew when this much of its life is over.
pub const RENEW_MS: u64 = LIFE_MS / 2;
/// Claims of others that are kept.
const LEARNED_MOST: usize = 4_096;
/// Largest proof that is looked at.
const PROOF_MAX: usize = 12 << 10;

/// The claims of other nodes that were verified here, and the serial of this node's own.
#[derive(Default)]
pub struct Claims {
    /// Of the last claim that this node made.
    serial: AtomicU64,
    /// Until when those are good that routing was told.
    told: Mutex<BTreeMap<Name, u64>>,
    learned: Mutex<BTreeMap<(Name, NodeId), Learned>>,
}

struct Learned {
    /// Of the proof, and the version of the root by which its signatures are good.
    proof: (Digest, u64),
    proven: Arc<Proven>,
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
    /// Makes the claim that this node serves a name. It counts more than all before it, also when the clock was set back.
    pub fn make(&self, identity: &Identity, name: &Name, now: u64) -> Outcome<routing::Claim> {
        let next = |last: u64| last.saturating_add(1).max(now);
        let last = self.serial.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let serial = next(last.unwrap_or_else(|last| last));
        let expires = now.saturating_add(LIFE_MS);
        let (mesh, node) = (identity.mesh, identity.id);
        let label = name.is_reserved().then(|| identity.label.clone()).filter(|label| is_label(label));
        let claim = Claim { mesh, node, name: name.clone(), label, serial, issued: now, expires };
        let signed = cose::sign(&claim, &[&identity.key])?;
        let proof = update::pack_proof(&signed, &identity.membership_signed)?;
        Ok(routing::Claim { name: name.to_string(), node: node.to_string(), serial, expires, proof })
    }

    /// Takes note that routing was told a claim of this node.
    pub fn note_told(&self, name: Name, expires: u64) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(name, expires);
    }

    /// Takes note that routing was told that this node does not serve a name any more.
    pub fn note_withdrawn(&self, name: &Name) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Whether the claim that routing was told last has half of its life before it.
    pub fn is_fresh(&self, name: &Name, now: u64) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let half = now.saturating_add(RENEW_MS)..=now.saturating_add(LIFE_MS);
        told.get(name).is_some_and(|expires| half.contains(expires))
    }

    /// Forgets claims of others that are over.
    pub fn sweep(&self, now: u64) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.retain(|_, known| known.proven.claim.expires > now);
    }

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
        let proof = (Digest::of(&claim.proof), rules.trusted.root.version);
        let accepted = match self.accepted(claim, proof) {
            Some(known) => known.holds(rules.now, &allowed).map(|()| known),
            None => update::accept_claim(rules.trusted, &claim.proof, rules.now, &allowed).map(Arc::new),
        };
        let accepted = accepted?;
        let proven = &accepted.claim;
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
        let key = (proven.name.clone(), proven.node);
        if !learned.contains_key(&key) && learned.len() >= LEARNED_MOST {
            learned.retain(|_, known| known.proven.claim.expires > rules.now);
        }
        if !learned.contains_key(&key) && learned.len() >= LEARNED_MOST {
            return Err(Fault::new(
                Code::Busy,
                format!("{LEARNED_MOST} claims are known; no more are taken"),
            ));
        }
        let known = learned.entry(key).or_insert_with(|| Learned { proof, proven: accepted.clone() });
        let kept = &known.proven.claim;
        if proven.serial >= kept.serial || kept.expires <= rules.now {
            *known = Learned { proof, proven: accepted };
        }
        Ok(())
    }

    /// The claim as it was verified before, by the same root: a routing policy that starts presents all that it is told again.
    fn accepted(&self, claim: &routing::Claim, proof: (Digest, u64)) -> Option<Arc<Proven>> {
        let key = (claim.name.parse().ok()?, claim.node.parse().ok()?);
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.get(&key).filter(|known| known.proof == proof).map(|known| known.proven.clone())
    }

    /// Whether this node has a verified, unexpired claim that the other serves the name.
    pub fn holds(&self, name: &Name, node: &NodeId, now: u64) -> bool {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.get(&(name.clone(), *node)).is_some_and(|known| known.proven.claim.expires > now)
    }

    /// The serial of the newest claim of the other for the name.
    pub fn serial(&self, name: &Name, node: &NodeId, now: u64) -> Option<u64> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &learned.get(&(name.clone(), *node))?.proven.claim;
        (known.expires > now).then_some(known.serial)
    }

    /// Forgets the claims of some nodes.
    pub fn forget(&self, gone: impl Fn(&NodeId) -> bool) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.retain(|(_, node), _| !gone(node));
    }

    /// The nodes that claim their own names, and what they call themselves.
    pub fn nodes(&self, now: u64) -> Vec<(NodeId, Option<String>)> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let claims = learned.values().map(|known| &known.proven.claim);
        let own = claims.filter(|claim| claim.name.is_reserved() && claim.expires > now);
        own.map(|claim| (claim.node, claim.label.clone())).collect()
    }

    /// The names that others claim, each once.
    pub fn names(&self, now: u64) -> BTreeSet<Name> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let claims = learned.values().map(|known| &known.proven.claim);
        claims.filter(|claim| claim.expires > now).map(|claim| claim.name.clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::objects::rules::tests::plugin;
    use crate::words::objects::{Kind, Root};
    use crate::words::{MeshId, Trust};

    const NOW: u64 = 1_800_000_000_000;

    fn key(seed: u8) -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(&[seed; 32])
    }

    /// A mesh of owner 1; its second root revokes node 50 when that is said.
    fn trusted(version: u64, revoked: &[u8], first: Option<&update::Trusted>) -> update::Trusted {
        let root = Root {
            version,
            mesh: first.map(|first| first.mesh),
            nonce: [5; 16],
            label: "home".into(),
            created: NOW,
            expires: NOW + 3 * LIFE_MS,
            owners: vec![cose::node_id(&key(1))],
            threshold: 1,
            operators: Vec::new(),
            revoked: revoked.iter().map(|seed| cose::node_id(&key(*seed))).collect(),
        };
        update::accept_root(first, &cose::sign(&root, &[&key(1)]).unwrap(), NOW).unwrap()
    }

    /// Node 50, with a membership that lets it serve nothing by itself.
    fn identity(mesh: MeshId) -> Identity {
        let id = cose::node_id(&key(50));
        let (trust, tags, names) = (Trust::Trusted, vec!["edge".into()], Vec::new());
        let (issued, expires) = (NOW, NOW + 3 * LIFE_MS);
        let membership = Membership { mesh, node: id, trust, tags, names, issued, expires, serial: 1 };
        let membership_signed = cose::sign(&membership, &[&key(1)]).unwrap();
        let (label, boot, random) = ("n50".to_owned(), 1, 1);
        Identity { id, key: key(50), label, membership, membership_signed, mesh, boot, random }
    }

    /// Has `x@d` on nodes with the tag.
    fn manifest(mesh: MeshId, tag: &str) -> Manifest {
        let mut plugin = plugin("skill/x", Kind::Skill, &["x@d"]);
        plugin.on.tags = vec![tag.into()];
        let (strangers, probation_ms) = (Trust::Basic, 0);
        let plugins = vec![plugin];
        Manifest { mesh, version: 1, created: NOW, expires: NOW + 1, strangers, probation_ms, plugins }
    }

    #[test]
    fn what_was_verified_is_judged_again_by_what_has_changed() {
        let first = trusted(1, &[], None);
        let (node, name) = (identity(first.mesh), "x@d".parse().unwrap());
        let (edge, core) = (manifest(first.mesh, "edge"), manifest(first.mesh, "core"));
        let rules = |trusted, manifest, now| Rules { trusted, manifest, now };
        let claims = Claims::default();
        let claim = claims.make(&node, &name, NOW).unwrap();
        let refused = |claim: &routing::Claim, rules: Rules<'_>| {
            claims.learn(claim, &rules).map_err(|fault| fault.code).unwrap_err()
        };
        assert_eq!(refused(&claim, rules(&first, &core, NOW)), Code::NotAllowed);
        let proof = Digest::of(&claim.proof);
        for known in [false, true] {
            assert_eq!(claims.accepted(&claim, (proof, 1)).is_some(), known);
            claims.learn(&claim, &rules(&first, &edge, NOW)).unwrap();
            assert!(claims.holds(&name, &node.id, NOW));
        }
        assert!(claims.accepted(&claim, (proof, 2)).is_none());
        assert_eq!(refused(&claim, rules(&first, &core, NOW)), Code::NotAllowed);
        assert_eq!(refused(&claim, rules(&first, &edge, claim.expires)), Code::Expired);
        let other = routing::Claim { serial: claim.serial + 1, ..claim.clone() };
        assert_eq!(refused(&other, rules(&first, &edge, NOW)), Code::BadObject);
        let mut altered = claim.clone();
        *altered.proof.last_mut().unwrap() ^= 1;
        assert_eq!(refused(&altered, rules(&first, &edge, NOW)), Code::BadSignature);
        // Another root: the signatures count anew.
        let second = trusted(2, &[50], Some(&first));
        assert_eq!(refused(&claim, rules(&second, &edge, NOW)), Code::UnknownKey);
    }

    #[test]
    fn one_that_is_over_makes_room_for_whatever_comes_then() {
        let first = trusted(1, &[], None);
        let (node, name) = (identity(first.mesh), "x@d".parse().unwrap());
        let edge = manifest(first.mesh, "edge");
        let claims = Claims::default();
        // Its clock was ahead and was set back; then the node began anew.
        claims.make(&node, &name, NOW + LIFE_MS).unwrap();
        let ahead = claims.make(&node, &name, NOW).unwrap();
        let next = Claims::default().make(&node, &name, ahead.expires - 1).unwrap();
        assert!(ahead.serial > next.serial);
        for (claim, now, expect) in
            [(&ahead, NOW, &ahead), (&next, ahead.expires - 1, &ahead), (&next, ahead.expires, &next)]
        {
            claims.learn(claim, &Rules { trusted: &first, manifest: &edge, now }).unwrap();
            assert_eq!(claims.serial(&name, &node.id, now), Some(expect.serial));
        }
    }

    #[test]
    fn what_routing_was_told_is_told_again_before_it_is_over_and_after_the_clock_has_jumped() {
        let (claims, name): (_, Name) = (Claims::default(), "x@d".parse().unwrap());
        assert!(!claims.is_fresh(&name, NOW));
        claims.note_told(name.clone(), NOW + LIFE_MS);
        assert!(claims.is_fresh(&name, NOW) && claims.is_fresh(&name, NOW + RENEW_MS));
        assert!(!claims.is_fresh(&name, NOW + RENEW_MS + 1) && !claims.is_fresh(&name, NOW - 1));
        claims.note_withdrawn(&name);
        assert!(!claims.is_fresh(&name, NOW));
    }

    #[test]
    fn a_claim_counts_more_than_those_before_also_when_the_clock_was_set_back() {
        let first = trusted(1, &[], None);
        let (node, name) = (identity(first.mesh), "x@d".parse().unwrap());
        let claims = Claims::default();
        let serials =
            [NOW, NOW, NOW - 60_000, NOW + 5].map(|now| claims.make(&node, &name, now).unwrap().serial);
        assert_eq!(serials, [NOW, NOW + 1, NOW + 2, NOW + 5]);
    }
}
