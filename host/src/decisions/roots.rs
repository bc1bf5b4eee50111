//! Newer roots: what a node takes of a chain that somebody brings, and how the next one begins.

use super::cose;
use super::update::{ROOTS_MAX, Trusted, accept_roots};
use crate::words::objects::{Operator, Role, Root};
use crate::words::{Code, Fault, NodeId, Outcome};

/// What a chain adds to what is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// What is trusted then.
    pub trusted: Trusted,
    /// The roots that were not known, oldest first.
    pub roots: Vec<Vec<u8>>,
}

/// Takes the roots of a chain that are newer than the current one. Whoever brings it needs no trust: each is signed by the owners of
/// the one before.
///
/// # Errors
/// As [`accept_roots`]; `stale-version` when the chain has nothing newer.
pub fn newer(current: &Trusted, chain: &[&[u8]], now: u64) -> Outcome<Newer> {
    if chain.len() > ROOTS_MAX {
        let what = format!("chain of {} roots is too long, at most {ROOTS_MAX} are taken", chain.len());
        return Err(Fault::new(Code::TooLarge, what));
    }
    let mut roots = Vec::new();
    let mut newest = 0;
    for root in chain {
        let version = cose::verify::<Root>(root)?.decode()?.version;
        newest = newest.max(version);
        if version > current.root.version {
            roots.push(*root);
        }
    }
    if roots.is_empty() {
        let what = format!("root has version {newest}, this node has {} already", current.root.version);
        return Err(Fault::new(Code::StaleVersion, what));
    }
    let trusted = accept_roots(Some(current), &roots, now)?;
    Ok(Newer { trusted, roots: roots.into_iter().map(<[u8]>::to_vec).collect() })
}

/// A change of who works in a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key is an operator with this role, whatever it was before.
    Operator(NodeId, Role),
    /// The key is no operator any more. It may become one again.
    NoOperator(NodeId),
    /// The key, an operator's or a node's, counts for nothing, ever.
    Revoke(NodeId),
}

/// The next root, not signed.
///
/// # Errors
/// `not-found` for an operator that is none; `not-allowed` for a key that is revoked, for an owner, and for one that is no usable key.
pub fn next(current: &Trusted, change: Change, nonce: [u8; 16], now: u64, expires: u64) -> Outcome<Root> {
    let mut root = Root {
        version: current.root.version.saturating_add(1),
        mesh: Some(current.mesh),
        nonce,
        created: now,
        expires,
        ..current.root.clone()
    };
    let (Change::Operator(key, _) | Change::NoOperator(key) | Change::Revoke(key)) = change;
    let refuse = |why: &str| Err(Fault::new(Code::NotAllowed, format!("key {key} {why}")));
    if !cose::is_strong(&key) {
        return refuse("is not a usable key");
    }
    if root.is_revoked(&key) {
        return refuse("is revoked, which cannot be taken back; make another key");
    }
    let known = root.operators.iter().position(|operator| operator.key == key);
    match change {
        Change::Operator(key, role) => {
            root.operators.retain(|operator| operator.key != key);
            root.operators.push(Operator { key, role });
        }
        Change::NoOperator(_) if known.is_none() => {
            let what = format!("key {key} is no operator");
            return Err(Fault::new(Code::NotFound, what).fix("`midplane mesh operator ls` shows who is"));
        }
        Change::NoOperator(key) => root.operators.retain(|operator| operator.key != key),
        Change::Revoke(key) if root.owners.contains(&key) => {
            return refuse("is an owner's; owners cannot be changed yet");
        }
        Change::Revoke(key) => root.revoked.push(key),
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::decisions::cose::{node_id, sign};
    use crate::decisions::update::accept_root;

    const NOW: u64 = 1_800_000_000_000;
    const DAY: u64 = 86_400_000;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn id(seed: u8) -> NodeId {
        node_id(&key(seed))
    }

    fn first() -> (Trusted, Vec<u8>) {
        let root = Root {
            version: 1,
            mesh: None,
            nonce: [1; 16],
            label: "home".into(),
            created: NOW,
            expires: NOW + DAY,
            owners: vec![id(1)],
            threshold: 1,
            operators: vec![],
            revoked: vec![],
        };
        let signed = sign(&root, &[&key(1)]).unwrap();
        (accept_root(None, &signed, NOW).unwrap(), signed)
    }

    fn then(current: &Trusted, change: Change, seed: u8) -> Vec<u8> {
        sign(&next(current, change, [2; 16], NOW, NOW + DAY).unwrap(), &[&key(seed)]).unwrap()
    }

    #[test]
    fn what_is_newer_is_taken_and_what_is_known_is_not() {
        let (one, first) = first();
        let second = then(&one, Change::Operator(id(7), Role::View), 1);
        let two = newer(&one, &[&first, &second], NOW).unwrap();
        assert_eq!((two.trusted.root.role(&id(7)), two.roots.len()), (Some(Role::View), 1));
        let third = then(&two.trusted, Change::Operator(id(7), Role::Deploy), 1);
        let three = newer(&one, &[&first, &second, &third], NOW).unwrap().trusted;
        assert_eq!((three.root.version, three.root.role(&id(7))), (3, Some(Role::Deploy)));
        for known in [&[&*first][..], &[&first, &second], &[&first, &second, &third], &[]] {
            assert_eq!(newer(&three, known, NOW).unwrap_err().code, Code::StaleVersion);
        }
        // With a gap, by the wrong key, changed, or when its time is over.
        assert_eq!(newer(&one, &[&third], NOW).unwrap_err().code, Code::StaleVersion);
        let forged = then(&one, Change::Operator(id(9), Role::Deploy), 9);
        assert_eq!(newer(&one, &[&forged], NOW).unwrap_err().code, Code::UnknownKey);
        let mut changed = second.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(newer(&one, &[&changed], NOW).unwrap_err().code, Code::BadSignature);
        assert_eq!(newer(&one, &[&second], NOW + DAY).unwrap_err().code, Code::Expired);
        let long: Vec<&[u8]> = vec![&first; ROOTS_MAX + 1];
        assert_eq!(newer(&one, &long, NOW).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn operators_come_and_go_and_the_revoked_never_return() {
        let (one, first) = first();
        let take =
            |current: &Trusted, change| newer(current, &[&then(current, change, 1)], NOW).unwrap().trusted;
        let refused =
            |current: &Trusted, change| next(current, change, [0; 16], NOW, NOW + DAY).unwrap_err().code;
        let two = take(&one, Change::Operator(id(7), Role::Operate));
        let three = take(&two, Change::NoOperator(id(7)));
        assert_eq!((three.root.role(&id(7)), three.root.operators.len()), (None, 0));
        assert_eq!(refused(&three, Change::NoOperator(id(7))), Code::NotFound);
        let four = take(&three, Change::Operator(id(7), Role::View));
        let five = take(&four, Change::Revoke(id(7)));
        assert_eq!(five.root.role(&id(7)), None);
        assert_eq!(refused(&five, Change::Operator(id(7), Role::View)), Code::NotAllowed);
        assert_eq!(refused(&five, Change::Revoke(id(1))), Code::NotAllowed, "the owner");
        let mut weak = [0; 32];
        weak[0] = 1;
        assert_eq!(refused(&five, Change::Operator(weak.into(), Role::View)), Code::NotAllowed);
        assert_eq!(newer(&five, &[&first], NOW).unwrap_err().code, Code::StaleVersion);
    }
}
