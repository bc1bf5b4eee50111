//! Which signed objects a node takes: what it trusts, bytes and the time go in, the accepted object or a
//! refusal comes out. Nothing is stored here; the caller stores what was accepted before it acts on it.
//!
//! Each function checks in one order: size, envelope, signatures and whether their keys may sign, kind and
//! form, mesh, version, time, content.

use ciborium::Value;

use super::canonical;
use super::cose::{self, Object, ObjectKind, Opened, Signed};
use crate::words::objects::rules::{self, is_label, is_pattern};
use crate::words::objects::{Claim, Manifest, Membership, Role, Root};
use crate::words::problems::Problems;
use crate::words::{Code, Digest, Fault, MeshId, Name, NodeId, Outcome};

/// How far the signer's clock may be ahead of ours. Nodes without a clock chip are minutes off, not hours.
pub const CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;
/// Root versions taken in one step by a node that was away. At one change a month this is twenty years.
pub const ROOTS_MAX: usize = 256;
/// Tags, and patterns of names, of one membership; selectors walk them for each plugin.
pub const MEMBERSHIP_LIST_MAX: usize = 64;

/// What a node believes of its mesh: everything else is judged by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The newest root that was accepted.
    pub root: Root,
    /// The mesh.
    pub mesh: MeshId,
}

/// The id of a mesh: the digest of the payload of its first root.
pub fn mesh_id(first_root_payload: &[u8]) -> MeshId {
    MeshId::from(*Digest::of(first_root_payload).as_bytes())
}

/// Takes a root: without a current one, version 1, signed by its own owners (whether it is the right mesh is
/// for the caller to ask, by [`Trusted::mesh`]); otherwise the next version, signed by the owners' thresholds
/// of both.
///
/// # Errors
/// As [`cose::open`]; `stale-version` for any version but the next, `wrong-mesh`, `expired`, `bad-object`.
pub fn accept_root(current: Option<&Trusted>, bytes: &[u8], now: u64) -> Outcome<Trusted> {
    accept_roots(current, &[bytes], now)
}

/// Takes several roots, oldest first, each next to the one before. Only the last may not have expired: those
/// before it merely hand over from one set of owners to the next.
///
/// # Errors
/// As [`accept_root`]; nothing is accepted when any of them is refused.
pub fn accept_roots(current: Option<&Trusted>, chain: &[&[u8]], now: u64) -> Outcome<Trusted> {
    if chain.len() > ROOTS_MAX {
        let what = format!("chain of {} roots is too long, at most {ROOTS_MAX} are taken", chain.len());
        return Err(Fault::new(Code::TooLarge, what));
    }
    let mut newest: Option<Trusted> = None;
    for bytes in chain {
        newest = Some(next_root(newest.as_ref().or(current), bytes, now)?);
    }
    let newest = newest.ok_or_else(|| Fault::new(Code::BadObject, "chain of roots is empty"))?;
    check_expiry(ObjectKind::Root, newest.root.expires, now)?;
    Ok(newest)
}

/// Takes back the roots that this node accepted earlier, for a start without a network: the same checks but for time. What
/// has expired since then stops new things, not what runs.
///
/// # Errors
/// As [`accept_roots`], without `expired`.
pub fn restore_roots(chain: &[&[u8]]) -> Outcome<Trusted> {
    let mut newest: Option<Trusted> = None;
    for bytes in chain {
        newest = Some(next_root(newest.as_ref(), bytes, u64::MAX)?);
    }
    newest.ok_or_else(|| Fault::new(Code::BadObject, "chain of roots is empty"))
}

/// Takes back the manifest that ran last, as [`restore_roots`] does with roots.
///
/// # Errors
/// As [`accept_manifest`], without `expired`; `stale-version` when it is not the version that ran.
pub fn restore_manifest(trusted: &Trusted, version: u64, bytes: &[u8]) -> Outcome<Opened<Manifest>> {
    let signed = cose::verify::<Manifest>(bytes)?;
    let signers = deploy_signers(&trusted.root, &signed)?;
    let manifest = signed.decode()?;
    check_mesh(ObjectKind::Manifest, manifest.mesh, trusted.mesh)?;
    if manifest.version != version {
        let what = format!("manifest has version {}, {version} ran last", manifest.version);
        return Err(Fault::new(Code::StaleVersion, what));
    }
    Ok(signed.opened(manifest, signers))
}

/// Takes back this node's own membership, as [`restore_roots`] does with roots. Peers judge it by their clocks.
///
/// # Errors
/// As [`accept_membership`], without `expired`.
pub fn restore_membership(trusted: &Trusted, bytes: &[u8], node: &NodeId) -> Outcome<Membership> {
    let membership = cose::open::<Membership>(bytes, &trusted.root.owners, 1)?.object;
    check_mesh(ObjectKind::Membership, membership.mesh, trusted.mesh)?;
    if membership.node != *node {
        return Err(Fault::new(
            Code::BadObject,
            format!("membership is for node {}, not for {node}", membership.node),
        ));
    }
    Ok(membership)
}

/// Takes a manifest whose version is above `floor`, signed by the owners' threshold or by one operator with
/// the role `deploy`.
///
/// # Errors
/// As [`cose::open`]; `wrong-mesh`, `stale-version`, `expired`, `bad-manifest` with everything that is wrong.
pub fn accept_manifest(trusted: &Trusted, floor: u64, bytes: &[u8], now: u64) -> Outcome<Opened<Manifest>> {
    let root = &trusted.root;
    check_expiry(ObjectKind::Root, root.expires, now)?;
    let signed = cose::verify::<Manifest>(bytes)?;
    let signers = deploy_signers(root, &signed)?;
    let manifest = signed.decode()?;
    check_mesh(ObjectKind::Manifest, manifest.mesh, trusted.mesh)?;
    if manifest.version <= floor {
        let what = format!("manifest has version {}, {floor} was taken already", manifest.version);
        let next = floor.saturating_add(1);
        let fix = format!(
            "sign it with version {next} or higher; what ran before comes back by `midplane rollback {}`",
            manifest.version
        );
        return Err(Fault::new(Code::StaleVersion, what).fix(fix));
    }
    check_times(ObjectKind::Manifest, manifest.created, manifest.expires, now)?;
    let mut problems = Problems::new();
    if let Err(why) = rules::check_probation(manifest.probation_ms) {
        problems.add(format!("probation is {why}"));
    }
    for problem in rules::problems(&manifest.plugins) {
        problems.add(problem.what);
    }
    problems.finish(Code::BadManifest, &format!("manifest version {}", manifest.version))?;
    Ok(signed.opened(manifest, signers))
}

/// Takes the membership of `node`, signed by any owner.
///
/// # Errors
/// As [`cose::open`]; `wrong-mesh`, `expired`, `bad-object` for another node, `unknown-key` for a revoked one.
pub fn accept_membership(
    trusted: &Trusted,
    bytes: &[u8],
    node: &NodeId,
    now: u64,
) -> Outcome<Opened<Membership>> {
    let opened = open_membership(trusted, bytes, now)?;
    if opened.object.node != *node {
        let what = format!("membership is for node {}, not for {node}", opened.object.node);
        return Err(Fault::new(Code::BadObject, what));
    }
    Ok(opened)
}

/// A claim with the membership of the node that makes it, as one proof that needs nothing else but the root.
///
/// # Errors
/// `internal` only.
pub fn pack_proof(claim: &[u8], membership: &[u8]) -> Outcome<Vec<u8>> {
    canonical::encode(&Value::Array(vec![Value::Bytes(claim.to_vec()), Value::Bytes(membership.to_vec())]))
}

/// A claim, and the membership of the node that makes it, with good signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What is claimed.
    pub claim: Claim,
    /// Of the node that claims it.
    pub membership: Membership,
}

/// Takes a proof made by [`pack_proof`]: the claim is signed by the node itself, the membership by an owner, and
/// the claim holds.
///
/// # Errors
/// As [`accept_membership`] and [`Proven::holds`].
pub fn accept_claim(
    trusted: &Trusted,
    proof: &[u8],
    now: u64,
    also_allowed: &dyn Fn(&Membership, &Name) -> bool,
) -> Outcome<Proven> {
    let (claim, membership) = unpack_proof(proof)?;
    let membership = open_membership(trusted, &membership, now)?.object;
    let claim = cose::open::<Claim>(&claim, &[membership.node], 1)?.object;
    if claim.node != membership.node {
        let what = format!("claim is of node {}, its membership of {}", claim.node, membership.node);
        return Err(Fault::new(Code::BadObject, what));
    }
    check_mesh(ObjectKind::Claim, claim.mesh, trusted.mesh)?;
    if claim.label.as_deref().is_some_and(|label| !is_label(label)) {
        return Err(Fault::new(Code::BadObject, format!("claim of node {} has no proper label", claim.node)));
    }
    let proven = Proven { claim, membership };
    proven.holds(now, also_allowed)?;
    Ok(proven)
}

impl Proven {
    /// Judges what time and the manifest may change, under the root by which it was accepted: the name lies within the membership's
    /// patterns, or `also_allowed` says that the manifest lets this member serve it. A node's own name is claimed by that node alone,
    /// whatever anybody says.
    ///
    /// # Errors
    /// `expired`; `not-allowed` for a name outside of both.
    pub fn holds(&self, now: u64, also_allowed: &dyn Fn(&Membership, &Name) -> bool) -> Outcome<()> {
        let Self { claim, membership } = self;
        check_times(ObjectKind::Membership, membership.issued, membership.expires, now)?;
        check_times(ObjectKind::Claim, claim.issued, claim.expires, now)?;
        let allowed = if claim.name.is_reserved() {
            // Whoever else could claim it would be sent the requests of operators.
            claim.name.node() == Some(claim.node)
        } else {
            membership.allows(&claim.name) || also_allowed(membership, &claim.name)
        };
        if !allowed {
            let what = format!("claim of {} by node {}, which may not serve it", claim.name, claim.node);
            return Err(Fault::new(Code::NotAllowed, what).fix("let an owner admit the node with this name"));
        }
        Ok(())
    }
}

fn next_root(current: Option<&Trusted>, bytes: &[u8], now: u64) -> Outcome<Trusted> {
    let signed = cose::verify::<Root>(bytes)?;
    if let Some(current) = current {
        signed.require(&current.root.owners, current.root.threshold.into())?;
    }
    let root = signed.decode()?;
    signed.require(&root.owners, root.threshold.into())?;
    let mesh = match (current, root.mesh) {
        (None, None) if root.version == 1 => mesh_id(signed.payload()),
        (None, _) => {
            let what = format!("root has version {}, a mesh begins with version 1", root.version);
            return Err(Fault::new(Code::StaleVersion, what));
        }
        (Some(current), _) if current.root.version.checked_add(1) != Some(root.version) => {
            let what = format!("root has version {}, this node is at {}", root.version, current.root.version);
            return Err(Fault::new(Code::StaleVersion, what).fix("roots are taken one after the other"));
        }
        (Some(current), mesh) => {
            let mesh =
                mesh.ok_or_else(|| Fault::new(Code::WrongMesh, "root of version 2 or later names no mesh"))?;
            check_mesh(ObjectKind::Root, mesh, current.mesh)?;
            mesh
        }
    };
    check_created(ObjectKind::Root, root.created, now)?;
    check_root(&root)?;
    Ok(Trusted { root, mesh })
}

/// What a root says about itself.
fn check_root(root: &Root) -> Outcome<()> {
    let mut problems = Problems::new();
    problems.add_if(!is_label(&root.label), || "label is 1 to 64 letters, digits, - _ and . only".into());
    problems.add_if(root.expires <= root.created, || "expires is not after created".into());
    // Both sets sign a change of owners in one envelope.
    let owners_max = cose::SIGNATURES_MAX / 2;
    problems.add_if(root.owners.len() > owners_max, || {
        format!("owners are at most {owners_max}, not {}", root.owners.len())
    });
    problems.add_if(root.threshold == 0 || usize::from(root.threshold) > root.owners.len(), || {
        format!("threshold is between 1 and the {} owners, not {}", root.owners.len(), root.threshold)
    });
    let operators: Vec<NodeId> = root.operators.iter().map(|operator| operator.key).collect();
    for (what, keys) in [("owner", &root.owners), ("operator", &operators)] {
        for (index, key) in keys.iter().enumerate() {
            problems.add_if(keys.iter().take(index).any(|earlier| earlier == key), || {
                format!("{what} {key} is named twice")
            });
            problems.add_if(!cose::is_strong(key), || format!("{what} {key} is not a usable key"));
        }
    }
    for key in root.owners.iter().filter(|key| root.is_revoked(key)) {
        problems.add(format!("owner {key} is revoked"));
    }
    problems.finish(Code::BadObject, &format!("root version {}", root.version))
}

/// The keys by which a manifest counts as signed, or what else says what runs: the owners' threshold, or one operator with the role
/// `deploy`.
pub(super) fn deploy_signers<T: Object>(root: &Root, signed: &Signed<T>) -> Outcome<Vec<NodeId>> {
    let kind = T::KIND;
    let mut known = root.owners.clone();
    known.extend(root.operators.iter().map(|operator| operator.key));
    let signers = signed.require(&known, 1)?;
    let (revoked, valid): (Vec<NodeId>, Vec<NodeId>) = signers.iter().partition(|key| root.is_revoked(key));
    if valid.iter().any(|key| root.role(key) == Some(Role::Deploy)) {
        return Ok(valid);
    }
    let owners = valid.iter().filter(|key| root.owners.contains(key)).count();
    if owners >= usize::from(root.threshold) {
        return Ok(valid);
    }
    if let Some(key) = revoked.first() {
        let what = format!("{kind} is signed by key {key}, which root version {} revokes", root.version);
        return Err(Fault::new(Code::UnknownKey, what));
    }
    let what = match (owners, valid.iter().find_map(|key| root.role(key).map(|role| (key, role)))) {
        (0, Some((key, role))) => {
            format!("{kind} is signed by operator {key} with role {role}, it needs role deploy")
        }
        _ => format!("{kind} has {owners} of {} owner signatures that it needs", root.threshold),
    };
    let fix = "sign it with the key of an operator with role deploy, or with more owner keys";
    Err(Fault::new(Code::BadSignature, what).fix(fix))
}

fn open_membership(trusted: &Trusted, bytes: &[u8], now: u64) -> Outcome<Opened<Membership>> {
    let opened = cose::open::<Membership>(bytes, &trusted.root.owners, 1)?;
    let membership = &opened.object;
    check_mesh(ObjectKind::Membership, membership.mesh, trusted.mesh)?;
    if trusted.root.is_revoked(&membership.node) {
        let what = format!("node {} is revoked by root version {}", membership.node, trusted.root.version);
        return Err(Fault::new(Code::UnknownKey, what));
    }
    check_times(ObjectKind::Membership, membership.issued, membership.expires, now)?;
    let mut problems = Problems::new();
    for (what, list) in [("tags", &membership.tags), ("names", &membership.names)] {
        problems.add_if(list.len() > MEMBERSHIP_LIST_MAX, || {
            format!("{what} are at most {MEMBERSHIP_LIST_MAX}, not {}", list.len())
        });
    }
    problems.add_if(!membership.tags.iter().all(|tag| is_label(tag)), || {
        "tags are letters, digits, - _ and . only".into()
    });
    problems.add_if(!membership.names.iter().all(|pattern| is_pattern(pattern)), || {
        "names are x@domain, *@domain or *".into()
    });
    problems.finish(Code::BadObject, "membership")?;
    Ok(opened)
}

/// The two envelopes of a proof, not verified.
fn unpack_proof(proof: &[u8]) -> Outcome<(Vec<u8>, Vec<u8>)> {
    /// Two lengths and the array around them.
    const FRAME: usize = 16;
    let most = ObjectKind::Claim.size_max() + ObjectKind::Membership.size_max() + FRAME;
    if proof.len() > most {
        let what = format!("proof of a claim has {} bytes, at most {most} are read", proof.len());
        return Err(Fault::new(Code::TooLarge, what));
    }
    let Value::Array(parts) = canonical::decode_value(proof, "proof of a claim")? else {
        return Err(Fault::new(Code::BadObject, "proof of a claim is not a list"));
    };
    match <[Value; 2]>::try_from(parts) {
        Ok([Value::Bytes(claim), Value::Bytes(membership)]) => Ok((claim, membership)),
        _ => Err(Fault::new(Code::BadObject, "proof of a claim is not a claim and a membership")),
    }
}

pub(super) fn check_mesh(kind: ObjectKind, found: MeshId, own: MeshId) -> Outcome<()> {
    if found == own {
        return Ok(());
    }
    Err(Fault::new(Code::WrongMesh, format!("{kind} is for mesh {found}, this node is in {own}")))
}

pub(super) fn check_times(kind: ObjectKind, created: u64, expires: u64, now: u64) -> Outcome<()> {
    check_expiry(kind, expires, now)?;
    check_created(kind, created, now)?;
    if expires <= created {
        return Err(Fault::new(Code::BadObject, format!("{kind} expires before it begins")));
    }
    Ok(())
}

pub(super) fn check_expiry(kind: ObjectKind, expires: u64, now: u64) -> Outcome<()> {
    if expires > now {
        return Ok(());
    }
    let what = format!("{kind} expired at {}", date(expires));
    Err(Fault::new(Code::Expired, what)
        .fix(format!("get or sign a newer {kind}; check the clock with `date`")))
}

fn check_created(kind: ObjectKind, created: u64, now: u64) -> Outcome<()> {
    if created <= now.saturating_add(CLOCK_SKEW_MS) {
        return Ok(());
    }
    let what = format!("{kind} is from the future: signed at {}, now is {}", date(created), date(now));
    Err(Fault::new(Code::BadObject, what).fix("check the clocks of this machine and of the one that signed"))
}

/// A time for people: RFC 3339 in UTC, whole seconds.
pub fn date(ms: u64) -> String {
    /// The end of the year 9999, the last one that the format has.
    const LAST_S: u64 = 253_402_300_799;
    let since = std::time::Duration::from_secs((ms / 1000).min(LAST_S));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}
