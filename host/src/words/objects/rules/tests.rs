//! What entries may say, as tables.

use super::*;
use crate::words::Digest;
use crate::words::objects::{Bindings, BlobRef, Grants, NodeAccess, Selector};

pub(crate) fn plugin(slot: &str, kind: Kind, names: &[&str]) -> Plugin {
    Plugin {
        slot: slot.into(),
        kind,
        component: BlobRef { digest: Digest::of(slot.as_bytes()), length: 100 },
        config: "{}".into(),
        protocol: None,
        mount: (kind == Kind::Gateway).then(|| format!("/{slot}")),
        datasets: if kind == Kind::Sync { vec!["config".into()] } else { vec![] },
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        expose: Trust::Trusted,
        grants: Grants::default(),
        bindings: Bindings::new(),
        limits: Limits::default(),
        instances: Instances::Fresh,
        handover: Handover::default(),
        drain_ms: Plugin::DRAIN_MS,
        probe: None,
        on: Selector::default(),
    }
}

fn check(change: impl FnOnce(&mut Vec<Plugin>), expect: &[(usize, &str)]) {
    let mut plugins = vec![
        plugin("discovery/static", Kind::Discovery, &[]),
        plugin("discovery/dns", Kind::Discovery, &[]),
        plugin("routing", Kind::Routing, &[]),
        plugin("skill/a", Kind::Skill, &["a@d"]),
        plugin("skill/b", Kind::Skill, &["b@d", "c@d"]),
        plugin("gateway/a", Kind::Gateway, &[]),
    ];
    change(&mut plugins);
    let found = problems(&plugins);
    assert_eq!(found.len(), expect.len(), "{found:?}");
    for (problem, (index, text)) in found.iter().zip(expect) {
        assert_eq!(problem.plugin, Some(*index), "{problem:?}");
        assert!(problem.what.contains(text), "{problem:?} lacks {text:?}");
    }
}

#[test]
fn plugins_are_checked_each_by_itself() {
    check(|_| {}, &[]);
    for slot in ["", "A", "a//b", "/a", "a b", "a\u{1b}[0m", &"a".repeat(65)] {
        check(|all| all[3].slot = slot.into(), &[(3, "a slot is")]);
    }
    check(|all| all[0].component.length = 0, &[(0, "empty")]);
    check(|all| all[0].component.length = COMPONENT_MAX + 1, &[(0, "at most 67108864 bytes")]);
    for config in ["", "[]", "{", "1", "{} x"] {
        check(|all| all[0].config = config.into(), &[(0, "not a JSON object")]);
    }
    check(
        |all| all[0].config = format!("{{\"a\":\"{}\"}}", "x".repeat(CONFIG_MAX)),
        &[(0, "config has at most")],
    );
    check(|all| all[3].protocol = Some("p/1".into()), &[(3, "a skill has no protocol")]);
    check(|all| all[2].protocol = Some("p 1".into()), &[(2, "protocol is")]);
    check(|all| all[2].names = vec!["r@d".parse().unwrap()], &[(2, "a routing policy serves no names")]);
    check(|all| all[3].names.clear(), &[(3, "at least one name")]);
    check(|all| all[3].names.push("a@d".parse().unwrap()), &[(3, "a@d is named twice")]);
    check(|all| all[5].names = vec!["g@d".parse().unwrap()], &[(5, "a gateway serves no names")]);
    check(|all| all[5].mount = None, &[(5, "a gateway needs a mount")]);
    check(|all| all[5].mount = Some("hello".into()), &[(5, "it has no path")]);
    check(|all| all[3].mount = Some("/hello".into()), &[(3, "mount is for gateways")]);
    check(|all| all[2].mount = Some("/hello".into()), &[(2, "mount is for gateways")]);
    check(|all| all[3].expose = Trust::Pending, &[(3, "expose is")]);
    check(|all| all[0].grants.node = Some(NodeAccess::Read), &[(0, "a policy imports nothing")]);
    check(|all| all[0].grants.resolve = vec!["*".into()], &[]);
    check(|all| all[2].grants.resolve = vec!["*".into()], &[(2, "for discovery")]);
    check(|all| all[3].on.tags = vec!["a b".into()], &[(3, "no label or tag")]);
    check(|all| all[3].limits.memory = 1, &[(3, "limits.memory")]);
    check(|all| all[3].limits.concurrency = 0, &[(3, "limits.concurrency")]);
    check(|all| all[3].instances = Instances::Reuse(0), &[(3, "calls of an instance")]);
    check(|all| all[3].handover = Handover::None, &[(3, "handover is for policies and singletons")]);
    check(
        |all| {
            all[2].handover = Handover::Optional;
            (all[3].handover, all[3].instances) = (Handover::None, Instances::Singleton);
        },
        &[],
    );
    check(|all| all[2].drain_ms = 1, &[(2, "drain is for workloads")]);
    check(|all| all[3].drain_ms = DRAIN_MAX_MS + 1, &[(3, "drain in ms is at most")]);
    check(|all| all[2].probe = Some("well".into()), &[(2, "probe is for workloads")]);
    check(|all| all[3].probe = Some("two words".into()), &[(3, "probe is 1 to")]);
    check(|all| all[5].probe = Some("health".into()), &[(5, "probe of a gateway is a path")]);
}

#[test]
fn plugins_are_checked_against_each_other() {
    let on = |label: &str| Selector { labels: vec![label.into()], tags: vec![] };
    check(|all| all[4].slot = "skill/a".into(), &[(4, "taken twice")]);
    check(|all| all.push(plugin("routing/b", Kind::Routing, &[])), &[(6, "one routing policy")]);
    check(|all| all[4].names.push("a@d".parse().unwrap()), &[(4, "a@d is served by skill/a")]);
    check(
        |all| {
            let mut other = plugin("routing", Kind::Routing, &[]);
            other.on = on("n1");
            all[2].on = on("n2");
            all.push(other);
        },
        &[],
    );
    let gateway = |slot: &str, mount: &str| {
        let mut other = plugin(slot, Kind::Gateway, &[]);
        other.mount = Some(mount.into());
        other
    };
    check(
        |all| all.push(gateway("gateway/b", "/gateway/a/")),
        &[(6, "/gateway/a is the mount of gateway/a")],
    );
    check(|all| all.push(gateway("gateway/b", "/gateway")), &[]);
    check(|all| all.push(gateway("gateway/b", "a.example/gateway/a")), &[]);
    check(
        |all| {
            all[5].on = on("n1");
            all.push(Plugin { on: on("n2"), ..gateway("gateway/b", "/gateway/a") });
        },
        &[],
    );
    // Everything wrong is told, not the first thing.
    check(
        |all| {
            all[0].component.length = 0;
            all[3].names.clear();
            all[4].limits.deadline_ms = 0;
        },
        &[(0, "empty"), (3, "name"), (4, "deadline")],
    );
    let many = vec![plugin("routing", Kind::Routing, &[]); PLUGINS_MAX + 1];
    assert_eq!(problems(&many).len(), 1);
}

#[test]
fn a_dataset_has_one_sync_policy_and_a_plain_name() {
    let with = |change: fn(&mut Plugin), expect: &[(usize, &str)]| {
        check(
            |all| {
                let mut sync = plugin("sync", Kind::Sync, &[]);
                change(&mut sync);
                all.push(sync);
            },
            expect,
        );
    };
    with(|_| {}, &[]);
    with(|sync| sync.datasets.clear(), &[(6, "at least one dataset")]);
    with(|sync| sync.datasets.push("a b".into()), &[(6, "\"a b\" is no dataset")]);
    with(|sync| sync.datasets.push("config".into()), &[(6, "config is named twice")]);
    let many = |sync: &mut Plugin| sync.datasets = (0..=DATASETS_MAX).map(|n| format!("d{n}")).collect();
    with(many, &[(6, "at most 64 datasets")]);
    check(|all| all[2].datasets.push("config".into()), &[(2, "not for a routing plugin")]);
    check(
        |all| {
            all.push(plugin("sync", Kind::Sync, &[]));
            all.push(plugin("sync/b", Kind::Sync, &[]));
        },
        &[(7, "config is synced by sync already")],
    );
    check(
        |all| {
            all.push(plugin("sync", Kind::Sync, &[]));
            all.push(plugin("sync/b", Kind::Sync, &[]));
            all[7].datasets = vec!["routes".into()];
        },
        &[],
    );
}

#[test]
fn patterns_are_recognised() {
    for (text, expect) in [
        ("*", true),
        ("*@d", true),
        ("a@d", true),
        ("a*@d", false),
        ("*@*", false),
        ("", false),
        ("*@", false),
    ] {
        assert_eq!(is_pattern(text), expect, "{text}");
    }
}
