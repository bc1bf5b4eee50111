use ed25519_dalek::SigningKey;

use super::cose::{Object, node_id, sign};
use super::update::*;
use crate::words::objects::rules::tests::plugin;
use crate::words::objects::{Claim, Kind, Manifest, Membership, Operator, Role, Root};
use crate::words::{Code, Fault, MeshId, Name, NodeId, Trust};

/// Any time; the objects are made then and are good for a day.
const NOW: u64 = 1_800_000_000_000;
const DAY: u64 = 86_400_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(super) fn id(seed: u8) -> NodeId {
    node_id(&key(seed))
}

pub(super) fn signed<T: Object>(object: &T, seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    sign(object, &keys.iter().collect::<Vec<_>>()).unwrap()
}

#[track_caller]
fn refuses<T: std::fmt::Debug>(outcome: Result<T, Fault>, code: Code, text: &str) {
    let fault = outcome.unwrap_err();
    assert_eq!(fault.code, code, "{fault}");
    assert!(fault.what.contains(text), "{fault} lacks {text:?}");
}

/// Owners 1, 2, 3 of which two sign; operators 11 deploy, 12 view, 13 deploy but revoked; node 99 revoked.
fn root() -> Root {
    let operator = |seed, role| Operator { key: id(seed), role };
    Root {
        version: 1,
        mesh: None,
        nonce: [5; 16],
        label: "home".into(),
        created: NOW,
        expires: NOW + DAY,
        owners: vec![id(1), id(2), id(3)],
        threshold: 2,
        operators: vec![operator(11, Role::Deploy), operator(12, Role::View), operator(13, Role::Deploy)],
        revoked: vec![id(13), id(99)],
    }
}

fn trusted() -> Trusted {
    accept_root(None, &signed(&root(), &[1, 2]), NOW).unwrap()
}

fn next(change: impl FnOnce(&mut Root)) -> Root {
    let mut root = Root { version: 2, mesh: Some(trusted().mesh), nonce: [6; 16], ..root() };
    change(&mut root);
    root
}

#[test]
fn the_first_root_is_signed_by_its_own_owners() {
    let bytes = signed(&root(), &[1, 2]);
    let first = accept_root(None, &bytes, NOW).unwrap();
    assert_eq!(first.root, root());
    assert_eq!(first.mesh, mesh_id(&super::canonical::encode(&root()).unwrap()));
    // Who signs it makes no difference to which mesh it is.
    assert_eq!(accept_root(None, &signed(&root(), &[1, 2, 3]), NOW).unwrap().mesh, first.mesh);
    let other = Root { nonce: [6; 16], ..root() };
    assert_ne!(accept_root(None, &signed(&other, &[1, 2]), NOW).unwrap().mesh, first.mesh);

    refuses(accept_root(None, &signed(&root(), &[1]), NOW), Code::BadSignature, "1 of 2");
    refuses(accept_root(None, &signed(&root(), &[11, 12]), NOW), Code::UnknownKey, "may not sign");
    refuses(accept_root(None, &signed(&root(), &[1, 11]), NOW), Code::BadSignature, "1 of 2");
    refuses(accept_root(None, &signed(&next(|_| ()), &[1, 2]), NOW), Code::StaleVersion, "version 2");
    let named = Root { mesh: Some([1; 32].into()), ..root() };
    refuses(accept_root(None, &signed(&named, &[1, 2]), NOW), Code::StaleVersion, "version 1");
    refuses(accept_root(None, &bytes, NOW + DAY), Code::Expired, "root expired at 2027-01-16");
    assert!(accept_root(None, &bytes, NOW - CLOCK_SKEW_MS).is_ok());
    refuses(accept_root(None, &bytes, NOW - CLOCK_SKEW_MS - 1), Code::BadObject, "from the future");
}

#[test]
fn roots_make_sense() {
    for (change, text) in [
        (
            Box::new(|root: &mut Root| root.threshold = 4) as Box<dyn Fn(&mut Root)>,
            "threshold is between 1 and the 3",
        ),
        (Box::new(|root| root.threshold = 0), "threshold is between"),
        (Box::new(|root| root.owners.push(id(1))), "is named twice"),
        (Box::new(|root| root.revoked.push(id(1))), "is revoked"),
        (Box::new(|root| root.owners.push([0xff; 32].into())), "not a usable key"),
        (Box::new(|root| root.operators.push(root.operators[0].clone())), "is named twice"),
        (Box::new(|root| root.label = "\u{1b}[2J".into()), "label is"),
        (Box::new(|root| root.label = String::new()), "label is"),
        (Box::new(|root| root.owners.extend((20..26).map(id))), "at most 8"),
        (Box::new(|root| root.created = root.expires), "not after created"),
    ] {
        let mut bad = root();
        change(&mut bad);
        let outcome = accept_root(None, &signed(&bad, &[1, 2, 3]), bad.created.min(NOW + DAY - 1));
        let fault = outcome.unwrap_err();
        // An unreachable threshold already fails when the signatures are counted.
        assert!(fault.what.contains(text) || fault.what.contains("3 of 4"), "{fault} lacks {text:?}");
    }
}

#[test]
fn the_next_root_is_signed_by_both_sets() {
    let first = trusted();
    let accept = |root: &Root, seeds: &[u8]| accept_root(Some(&first), &signed(root, seeds), NOW);
    let new_owners = next(|root| {
        root.owners = vec![id(4), id(5)];
        root.threshold = 2;
    });
    assert_eq!(
        accept(&new_owners, &[1, 3, 4, 5]).unwrap(),
        Trusted { root: new_owners.clone(), mesh: first.mesh }
    );
    assert!(accept(&next(|_| ()), &[2, 3]).is_ok());
    refuses(accept(&new_owners, &[4, 5]), Code::UnknownKey, "may not sign");
    refuses(accept(&new_owners, &[1, 4, 5]), Code::BadSignature, "1 of 2");
    refuses(accept(&new_owners, &[1, 2]), Code::UnknownKey, "may not sign");
    refuses(accept(&new_owners, &[1, 2, 4]), Code::BadSignature, "1 of 2");
    for version in [0, 1, 3, u64::MAX] {
        let root = next(|root| root.version = version);
        refuses(accept(&root, &[1, 2]), Code::StaleVersion, "this node is at 1");
    }
    refuses(accept(&next(|root| root.mesh = None), &[1, 2]), Code::WrongMesh, "names no mesh");
    refuses(accept(&next(|root| root.mesh = Some([1; 32].into())), &[1, 2]), Code::WrongMesh, "is in");
    let old = next(|root| (root.created, root.expires) = (NOW - 1, NOW));
    refuses(accept(&old, &[1, 2]), Code::Expired, "expired");
    let last = Trusted { root: next(|root| root.version = u64::MAX), mesh: first.mesh };
    let again = signed(&last.root, &[1, 2]);
    refuses(accept_root(Some(&last), &again, NOW), Code::StaleVersion, "");
}

#[test]
fn a_chain_of_roots_is_taken_as_a_whole() {
    let first = signed(&root(), &[1, 2]);
    let second = signed(&next(|root| root.expires = NOW + 10 * DAY), &[1, 2]);
    let third = next(|root| {
        root.version = 3;
        root.expires = NOW + 20 * DAY;
    });
    let third = signed(&third, &[1, 3]);
    let later = NOW + 15 * DAY;
    let newest = accept_roots(None, &[&first, &second, &third], later).unwrap();
    assert_eq!((newest.root.version, newest.mesh), (3, trusted().mesh));
    assert_eq!(accept_roots(Some(&trusted()), &[&second, &third], later).unwrap(), newest);
    refuses(accept_roots(None, &[&first, &second], later), Code::Expired, "");
    refuses(accept_roots(None, &[&first, &third], later), Code::StaleVersion, "");
    refuses(accept_roots(None, &[&second, &third], later), Code::StaleVersion, "");
    refuses(accept_roots(None, &[], NOW), Code::BadObject, "empty");
    refuses(accept_roots(None, &vec![first.as_slice(); ROOTS_MAX + 1], NOW), Code::TooLarge, "257 roots");
}

fn manifest(change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut manifest = Manifest {
        mesh: trusted().mesh,
        version: 8,
        created: NOW,
        expires: NOW + DAY / 2,
        strangers: Trust::Pending,
        probation_ms: Manifest::PROBATION_MS,
        plugins: vec![plugin("routing", Kind::Routing, &[]), plugin("skill/a", Kind::Skill, &["a@d"])],
    };
    change(&mut manifest);
    manifest
}

#[test]
fn manifests_are_signed_by_owners_or_a_deploying_operator() {
    let trusted = trusted();
    let bytes = |seeds: &[u8]| signed(&manifest(|_| ()), seeds);
    for (seeds, signers) in [
        (&[11u8][..], vec![id(11)]),
        (&[1, 2], vec![id(1), id(2)]),
        (&[1, 11], vec![id(1), id(11)]),
        (&[7, 11], vec![id(11)]),
    ] {
        let opened = accept_manifest(&trusted, 7, &bytes(seeds), NOW).unwrap();
        let sorted = |mut list: Vec<NodeId>| {
            list.sort();
            list
        };
        assert_eq!(sorted(opened.signers), sorted(signers));
        assert_eq!(opened.object, manifest(|_| ()));
    }
    for (seeds, code, text) in [
        (&[1u8][..], Code::BadSignature, "1 of 2 owner signatures"),
        (&[12], Code::BadSignature, "role view, it needs role deploy"),
        (&[13], Code::UnknownKey, "revokes"),
        (&[1, 12], Code::BadSignature, "1 of 2 owner signatures"),
        (&[12, 13], Code::UnknownKey, "revokes"),
        (&[7], Code::UnknownKey, "may not sign"),
        (&[99], Code::UnknownKey, "may not sign"),
    ] {
        refuses(accept_manifest(&trusted, 7, &bytes(seeds), NOW), code, text);
    }
}

#[test]
fn manifests_are_newer_in_time_and_of_this_mesh() {
    let trusted = trusted();
    let accept =
        |manifest: &Manifest, floor: u64| accept_manifest(&trusted, floor, &signed(manifest, &[11]), NOW);
    assert!(accept(&manifest(|_| ()), 0).is_ok());
    refuses(accept(&manifest(|_| ()), 8), Code::StaleVersion, "version 8, 8 was taken");
    refuses(accept(&manifest(|_| ()), 9), Code::StaleVersion, "version 8, 9 was taken");
    refuses(accept(&manifest(|_| ()), u64::MAX), Code::StaleVersion, "");
    refuses(accept(&manifest(|m| m.mesh = [1; 32].into()), 0), Code::WrongMesh, "is in");
    refuses(
        accept(&manifest(|m| m.expires = NOW), 0),
        Code::Expired,
        "manifest expired at 2027-01-15T08:00:00Z",
    );
    refuses(accept(&manifest(|m| m.expires = 0), 0), Code::Expired, "1970-01-01");
    assert!(accept(&manifest(|m| m.created = NOW + CLOCK_SKEW_MS), 0).is_ok());
    refuses(accept(&manifest(|m| m.created = NOW + CLOCK_SKEW_MS + 1), 0), Code::BadObject, "future");
    refuses(accept(&manifest(|m| m.created = u64::MAX), 0), Code::BadObject, "9999-12-31");
    let soon = manifest(|m| (m.created, m.expires) = (NOW + 2, NOW + 1));
    refuses(accept(&soon, 0), Code::BadObject, "before it begins");
    // With an expired root nobody's signature counts any more.
    let bytes = signed(&manifest(|m| m.expires = NOW + 9 * DAY), &[11]);
    refuses(accept_manifest(&trusted, 0, &bytes, NOW + DAY), Code::Expired, "root expired");
}

#[test]
fn problems_of_a_manifest_are_told_at_once() {
    let bad = manifest(|manifest| {
        manifest.plugins.push(plugin("routing", Kind::Routing, &[]));
        manifest.plugins[1].names.clear();
    });
    let fault = accept_manifest(&trusted(), 0, &signed(&bad, &[11]), NOW).unwrap_err();
    assert_eq!(fault.code, Code::BadManifest);
    assert!(fault.what.starts_with("manifest version 8 has 2 problems\n  skill/a: a skill needs"), "{fault}");
    assert!(fault.what.contains("\n  routing: this slot is taken twice"), "{fault}");
    // The signature is asked first: a stranger learns nothing and costs nothing.
    refuses(accept_manifest(&trusted(), 0, &signed(&bad, &[7]), NOW), Code::UnknownKey, "");
}

fn membership(change: impl FnOnce(&mut Membership)) -> Membership {
    let mut membership = Membership {
        mesh: trusted().mesh,
        node: id(50),
        trust: Trust::Trusted,
        tags: vec!["edge".into()],
        names: vec!["*@fabric".into(), "b@d".into()],
        issued: NOW,
        expires: NOW + DAY,
        serial: 1,
    };
    change(&mut membership);
    membership
}

#[test]
fn memberships_are_signed_by_an_owner_for_one_node() {
    let trusted = trusted();
    let accept = |membership: &Membership, seed: u8| {
        accept_membership(&trusted, &signed(membership, &[seed]), &id(50), NOW)
    };
    assert_eq!(accept(&membership(|_| ()), 3).unwrap().object, membership(|_| ()));
    refuses(accept(&membership(|_| ()), 11), Code::UnknownKey, "may not sign");
    refuses(accept(&membership(|_| ()), 50), Code::UnknownKey, "may not sign");
    refuses(accept(&membership(|m| m.node = id(51)), 1), Code::BadObject, "is for node");
    refuses(accept(&membership(|m| m.node = id(99)), 1), Code::UnknownKey, "revoked");
    refuses(accept(&membership(|m| m.mesh = [1; 32].into()), 1), Code::WrongMesh, "");
    refuses(accept(&membership(|m| m.expires = NOW), 1), Code::Expired, "membership expired");
    refuses(accept(&membership(|m| m.issued = NOW + DAY - 1), 1), Code::BadObject, "future");
    refuses(accept(&membership(|m| m.names = vec!["a*@d".into()]), 1), Code::BadObject, "names are");
    refuses(accept(&membership(|m| m.tags = vec!["\n".into()]), 1), Code::BadObject, "tags are");
    refuses(
        accept(&membership(|m| m.tags = vec!["x".into(); 65]), 1),
        Code::BadObject,
        "tags are at most 64",
    );
}

fn claim(name: &str, change: impl FnOnce(&mut Claim)) -> Claim {
    let mut claim = Claim {
        mesh: trusted().mesh,
        node: id(50),
        name: name.parse().unwrap(),
        label: None,
        serial: 1,
        issued: NOW,
        expires: NOW + 60_000,
    };
    change(&mut claim);
    claim
}

#[test]
fn claims_are_signed_by_their_node_and_within_its_names() {
    let trusted = trusted();
    let never = |_: &Membership, _: &Name| false;
    let accept = |claim: &Claim, signer: u8, membership: &Membership, owner: u8| {
        let proof = pack_proof(&signed(claim, &[signer]), &signed(membership, &[owner])).unwrap();
        accept_claim(&trusted, &proof, NOW, &never)
    };
    let member = membership(|_| ());
    for name in ["a@fabric", "b@d"] {
        let taken = accept(&claim(name, |_| ()), 50, &member, 1).unwrap();
        assert_eq!(taken, Proven { claim: claim(name, |_| ()), membership: member.clone() });
    }
    let good = claim("a@fabric", |_| ());
    refuses(accept(&claim("a@d", |_| ()), 50, &member, 1), Code::NotAllowed, "a@d");
    refuses(accept(&good, 51, &member, 1), Code::UnknownKey, "may not sign");
    refuses(accept(&good, 1, &member, 1), Code::UnknownKey, "may not sign");
    refuses(accept(&good, 50, &member, 50), Code::UnknownKey, "may not sign");
    refuses(
        accept(&claim("a@fabric", |c| c.node = id(51)), 50, &member, 1),
        Code::BadObject,
        "its membership of",
    );
    refuses(accept(&good, 50, &membership(|m| m.node = id(51)), 1), Code::UnknownKey, "may not sign");
    refuses(accept(&good, 50, &membership(|m| m.expires = NOW), 1), Code::Expired, "membership");
    refuses(accept(&claim("a@fabric", |c| c.expires = NOW), 50, &member, 1), Code::Expired, "claim");
    let other: MeshId = [1; 32].into();
    refuses(accept(&claim("a@fabric", |c| c.mesh = other), 50, &member, 1), Code::WrongMesh, "claim");
    let revoked = membership(|m| m.node = id(99));
    refuses(accept(&claim("a@fabric", |c| c.node = id(99)), 99, &revoked, 1), Code::UnknownKey, "revoked");

    // A node's own name is claimed by that node alone, whatever its membership and the manifest say.
    let (own, other) = (Name::of_node(&id(50)), Name::of_node(&id(51)));
    let everything = membership(|m| m.names = vec!["*".into()]);
    let nothing = membership(|m| m.names = vec![]);
    assert!(accept(&claim(own.as_str(), |c| c.label = Some("edge".into())), 50, &nothing, 1).is_ok());
    for name in [other.as_str(), "x@node"] {
        refuses(accept(&claim(name, |_| ()), 50, &everything, 1), Code::NotAllowed, name);
        let proof = pack_proof(&signed(&claim(name, |_| ()), &[50]), &signed(&everything, &[1])).unwrap();
        refuses(accept_claim(&trusted, &proof, NOW, &|_, _| true), Code::NotAllowed, name);
    }
    let loud = claim(own.as_str(), |c| c.label = Some("\x1b[1m".into()));
    refuses(accept(&loud, 50, &everything, 1), Code::BadObject, "label");

    // What the manifest allows counts too, and is asked with the verified membership.
    let proof = pack_proof(&signed(&claim("a@d", |_| ()), &[50]), &signed(&member, &[1])).unwrap();
    let by_tag = |member: &Membership, name: &Name| member.tags == ["edge"] && name.as_str() == "a@d";
    let proven = accept_claim(&trusted, &proof, NOW, &by_tag).unwrap();
    // It is judged again without its signatures, by what may have changed.
    assert_eq!(proven.holds(NOW, &by_tag), Ok(()));
    refuses(proven.holds(NOW, &never), Code::NotAllowed, "a@d");
    refuses(proven.holds(proven.claim.expires, &by_tag), Code::Expired, "claim");
    refuses(proven.holds(proven.membership.expires, &by_tag), Code::Expired, "membership");
}

#[test]
fn proofs_have_one_form() {
    let (claim, member) = (signed(&claim("b@d", |_| ()), &[50]), signed(&membership(|_| ()), &[1]));
    let proof = pack_proof(&claim, &member).unwrap();
    let accept = |proof: &[u8]| accept_claim(&trusted(), proof, NOW, &|_, _| false);
    assert!(accept(&proof).is_ok());
    for index in 0..proof.len() {
        let mut bad = proof.clone();
        bad[index] ^= 1;
        assert!(accept(&bad).is_err(), "byte {index} was taken");
        assert!(accept(&proof[..index]).is_err(), "cut at {index} was taken");
    }
    refuses(accept(&[proof.as_slice(), &[0]].concat()), Code::BadObject, "1 bytes follow");
    refuses(accept(&[&[0x9f], &proof[1..], &[0xff]].concat()), Code::BadObject, "canonical");
    refuses(accept(&[&[0x83], &proof[1..], &[0x40]].concat()), Code::BadObject, "not a claim and");
    refuses(accept(&pack_proof(&member, &claim).unwrap()), Code::BadObject, "was expected");
    refuses(accept(&[0xa0]), Code::BadObject, "not a list");
    refuses(accept(&vec![0; 13 << 10]), Code::TooLarge, "at most");
}
