//! Which swaps a node takes, and what a manifest is with them. Nothing is stored here.
//!
//! A swap is taken by the rules of manifests and two more: it is for this node and for the manifest in force, and it is newer than every
//! swap that was taken before, so that what was undone does not come back.

use super::cose::{self, ObjectKind, Opened};
use super::update::{Trusted, check_expiry, check_mesh, check_times, date, deploy_signers};
use crate::words::id::clip;
use crate::words::objects::swap::Mode;
use crate::words::objects::{BlobRef, Manifest, Plugin, Swap, rules};
use crate::words::problems::Problems;
use crate::words::{Code, Digest, Fault, NodeId, Outcome};

/// What a swap is judged by, beside the root.
pub struct Base<'a> {
    /// The node.
    pub node: NodeId,
    /// What it calls itself.
    pub label: &'a str,
    /// Tags of its membership.
    pub tags: &'a [String],
    /// The manifest in force.
    pub manifest: &'a Manifest,
    /// The digest of its signed form.
    pub digest: Digest,
}

/// Takes a swap that was signed after `floor`, the time at which the last one that was taken was signed.
///
/// # Errors
/// As [`cose::open`]; `wrong-mesh`, `bad-object` for another node's, `stale-version` for another manifest or one that is not newer, `expired`,
/// `not-found` for a slot that the manifest does not have here, `bad-manifest` for what no entry may say.
pub fn accept(
    trusted: &Trusted,
    base: &Base<'_>,
    floor: u64,
    bytes: &[u8],
    now: u64,
) -> Outcome<Opened<Swap>> {
    check_expiry(ObjectKind::Root, trusted.root.expires, now)?;
    let opened = restore(trusted, base, bytes)?;
    let Swap { created, expires, .. } = opened.object;
    check_times(ObjectKind::Swap, created, expires, now)?;
    if created <= floor {
        let what = format!("swap was signed at {}, one of {} was taken already", date(created), date(floor));
        return Err(Fault::new(Code::StaleVersion, what).fix("sign a new one: run the command again"));
    }
    Ok(opened)
}

/// Takes back a swap that this node took earlier: the same checks but for time, by the root of today.
///
/// # Errors
/// As [`accept`], without `expired`.
pub fn restore(trusted: &Trusted, base: &Base<'_>, bytes: &[u8]) -> Outcome<Opened<Swap>> {
    let signed = cose::verify::<Swap>(bytes)?;
    let signers = deploy_signers(&trusted.root, &signed)?;
    let swap = signed.decode()?;
    check_mesh(ObjectKind::Swap, swap.mesh, trusted.mesh)?;
    if swap.node != base.node {
        let what = format!("swap is for node {}, not for {}", swap.node, base.node);
        return Err(Fault::new(Code::BadObject, what));
    }
    if swap.version != base.manifest.version || swap.manifest != base.digest {
        let (version, own) = (swap.version, base.manifest.version);
        let what = format!(
            "swap is for generation {version} ({}), generation {own} ({}) is in force",
            swap.manifest.short(),
            base.digest.short()
        );
        return Err(Fault::new(Code::StaleVersion, what).fix("sign a new one: run the command again"));
    }
    if entry(base, &swap.slot).is_none() {
        let what = format!("{} is no slot of this node in generation {}", clip(&swap.slot), swap.version);
        return Err(Fault::new(Code::NotFound, what).fix("`midplane plugins` lists them"));
    }
    let mut problems = Problems::new();
    for problem in rules::problems(&with(base, [(swap.slot.as_str(), swap.component)]).plugins) {
        problems.add(problem.what);
    }
    problems.finish(Code::BadManifest, "swap")?;
    Ok(signed.opened(swap, signers))
}

/// Refuses to do with a swap what it was not signed for.
///
/// # Errors
/// `not-allowed`.
pub fn check_mode(swap: &Swap, asked: Mode) -> Outcome<()> {
    if swap.mode == asked {
        return Ok(());
    }
    let what = format!("swap of {} was signed for {}, not for {asked}", clip(&swap.slot), swap.mode);
    Err(Fault::new(Code::NotAllowed, what).fix("sign a new one: run the command again"))
}

/// The entry of a slot on this node, as the manifest has it.
pub fn entry<'a>(base: &Base<'a>, slot: &str) -> Option<&'a Plugin> {
    base.manifest
        .plugins
        .iter()
        .find(|plugin| plugin.slot == slot && plugin.on.matches(base.label, base.tags))
}

/// What is to run on this node: the manifest, and in each slot that is swapped the other component. Nothing else of an entry changes, so
/// nobody gains a right.
pub fn with<'a>(base: &Base<'_>, swaps: impl IntoIterator<Item = (&'a str, BlobRef)>) -> Manifest {
    let mut manifest = base.manifest.clone();
    for (slot, component) in swaps {
        let mine = |plugin: &&mut Plugin| plugin.slot == slot && plugin.on.matches(base.label, base.tags);
        if let Some(plugin) = manifest.plugins.iter_mut().find(mine) {
            plugin.component = component;
        }
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::update::{CLOCK_SKEW_MS, accept_root, accept_roots};
    use crate::decisions::update_tests::{id, signed};
    use crate::words::objects::rules::tests::plugin;
    use crate::words::objects::{Kind, Operator, Role, Root, Selector};
    use crate::words::{MeshId, Trust};

    const NOW: u64 = 1_800_000_000_000;
    const DAY: u64 = 86_400_000;

    /// Owners 1 and 2, who both sign; operators 11 deploy, 12 operate.
    fn root() -> Root {
        let operator = |seed, role| Operator { key: id(seed), role };
        Root {
            version: 1,
            mesh: None,
            nonce: [5; 16],
            label: "home".into(),
            created: NOW,
            expires: NOW + DAY,
            owners: vec![id(1), id(2)],
            threshold: 2,
            operators: vec![operator(11, Role::Deploy), operator(12, Role::Operate)],
            revoked: vec![],
        }
    }

    fn trusted() -> Trusted {
        accept_root(None, &signed(&root(), &[1, 2]), NOW).unwrap()
    }

    fn component(seed: u8) -> BlobRef {
        BlobRef { digest: Digest::of(&[seed]), length: 7 }
    }

    fn manifest() -> Manifest {
        let here = plugin("skill/a", Kind::Skill, &["a@fabric"]);
        let mut elsewhere = plugin("skill/b", Kind::Skill, &["b@fabric"]);
        elsewhere.on = Selector { labels: vec!["n2".into()], tags: vec![] };
        Manifest {
            mesh: trusted().mesh,
            version: 4,
            created: NOW,
            expires: NOW + DAY,
            strangers: Trust::Pending,
            probation_ms: Manifest::PROBATION_MS,
            plugins: vec![here, elsewhere],
        }
    }

    fn base(manifest: &Manifest) -> Base<'_> {
        Base { node: id(9), label: "n1", tags: &[], manifest, digest: Digest::of(b"signed") }
    }

    fn swap() -> Swap {
        Swap {
            mesh: trusted().mesh,
            node: id(9),
            version: 4,
            manifest: Digest::of(b"signed"),
            slot: "skill/a".into(),
            component: component(2),
            mode: Mode::Plain,
            created: NOW,
            expires: NOW + 1,
        }
    }

    #[test]
    fn a_swap_is_taken_once_here_now_and_for_what_is_in_force() {
        let manifest = manifest();
        let change = |change: &dyn Fn(&mut Swap)| {
            let mut swap = swap();
            change(&mut swap);
            swap
        };
        type Expect = Result<(), (Code, &'static str)>;
        let cases: Vec<(Swap, &[u8], u64, u64, Expect)> = vec![
            (swap(), &[11], 0, NOW, Ok(())),
            (swap(), &[1, 2], NOW - 1, NOW, Ok(())),
            (swap(), &[11], NOW, NOW, Err((Code::StaleVersion, "was taken already"))),
            (swap(), &[11], 0, NOW + 1, Err((Code::Expired, "swap expired"))),
            (swap(), &[11], 0, NOW + DAY, Err((Code::Expired, "root expired"))),
            (swap(), &[11], 0, NOW - CLOCK_SKEW_MS - 1, Err((Code::BadObject, "from the future"))),
            (swap(), &[12], 0, NOW, Err((Code::BadSignature, "it needs role deploy"))),
            (swap(), &[1], 0, NOW, Err((Code::BadSignature, "swap has 1 of 2 owner signatures"))),
            (swap(), &[9], 0, NOW, Err((Code::UnknownKey, "may not sign it"))),
            (change(&|swap| swap.node = id(8)), &[11], 0, NOW, Err((Code::BadObject, "swap is for node"))),
            (change(&|swap| swap.mesh = MeshId::from([3; 32])), &[11], 0, NOW, Err((Code::WrongMesh, ""))),
            (change(&|swap| swap.version = 3), &[11], 0, NOW, Err((Code::StaleVersion, "is in force"))),
            (
                change(&|swap| swap.manifest = Digest::of(b"other")),
                &[11],
                0,
                NOW,
                Err((Code::StaleVersion, "generation 4 (")),
            ),
            (change(&|swap| swap.slot = "skill/b".into()), &[11], 0, NOW, Err((Code::NotFound, "skill/b"))),
            (change(&|swap| swap.slot = "nothing".into()), &[11], 0, NOW, Err((Code::NotFound, "nothing"))),
            (
                change(&|swap| swap.component.length = rules::COMPONENT_MAX + 1),
                &[11],
                0,
                NOW,
                Err((Code::BadManifest, "at most")),
            ),
        ];
        for (swap, keys, floor, now, expect) in cases {
            let outcome = accept(&trusted(), &base(&manifest), floor, &signed(&swap, keys), now);
            match (outcome, expect) {
                (Ok(opened), Ok(())) => assert_eq!(opened.object, swap),
                (Err(fault), Err((code, text))) => {
                    assert!(fault.code == code && fault.what.contains(text), "{fault}, not {code} {text}");
                }
                (outcome, expect) => panic!("{outcome:?}, not {expect:?} for {swap:?}"),
            }
        }
    }

    #[test]
    fn what_runs_goes_on_after_its_time_and_not_after_its_key() {
        let (manifest, bytes) = (manifest(), signed(&swap(), &[11]));
        assert!(restore(&trusted(), &base(&manifest), &bytes).is_ok());
        let next = Root {
            version: 2,
            mesh: Some(trusted().mesh),
            operators: vec![],
            revoked: vec![id(11)],
            ..root()
        };
        let newer = accept_roots(Some(&trusted()), &[&signed(&next, &[1, 2])], NOW).unwrap();
        let fault = restore(&newer, &base(&manifest), &bytes).unwrap_err();
        assert_eq!(fault.code, Code::UnknownKey, "{fault}");
    }

    #[test]
    fn nothing_but_the_component_changes_and_only_here() {
        let manifest = manifest();
        let swapped = with(&base(&manifest), [("skill/a", component(2))]);
        let mut expect = manifest.clone();
        expect.plugins[0].component = component(2);
        assert_eq!(swapped, expect);
        assert_eq!(with(&base(&manifest), [("skill/b", component(2))]), manifest);
    }

    #[test]
    fn what_was_signed_to_be_tried_is_not_put_in_force() {
        for signed in Mode::ALL {
            for asked in Mode::ALL {
                let outcome = check_mode(&Swap { mode: signed, ..swap() }, asked);
                assert_eq!(outcome.is_ok(), signed == asked, "{signed} {asked}");
            }
        }
    }
}
