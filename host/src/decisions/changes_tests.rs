//! Tables of what differs between two manifests.

use super::*;
use crate::words::objects::{BlobRef, Grants, Kind, Limits, Selector};

/// A plugin with nothing that anybody needs to mention.
pub(in crate::decisions) fn plugin(slot: &str, kind: Kind) -> Plugin {
    Plugin {
        slot: slot.to_owned(),
        kind,
        component: BlobRef { digest: Digest::of(b"1"), length: 1 },
        config: "{}".to_owned(),
        protocol: None,
        mount: None,
        datasets: Vec::new(),
        names: Vec::new(),
        expose: Trust::Trusted,
        grants: Grants::default(),
        bindings: Default::default(),
        limits: Limits::default(),
        instances: Instances::Fresh,
        handover: Default::default(),
        drain_ms: Plugin::DRAIN_MS,
        probe: None,
        on: Selector::default(),
    }
}

fn side(plugins: &[Plugin]) -> Side<'_> {
    Side { plugins, strangers: Trust::Pending, probation_ms: Manifest::PROBATION_MS }
}

fn says(old: &[Plugin], new: &[Plugin]) -> Vec<String> {
    between(Some(side(old)), side(new), "n1", &[]).lines()
}

#[test]
fn each_key_is_told_with_both_values() {
    let own = plugin("skill/a", Kind::Skill);
    let short = |bytes: &[u8]| Digest::of(bytes).short();
    let limits = |change: fn(&mut Limits)| {
        let mut limits = own.limits;
        change(&mut limits);
        Plugin { limits, ..own.clone() }
    };
    let on = |labels: &[&str], tags: &[&str]| Selector {
        labels: labels.iter().map(ToString::to_string).collect(),
        tags: tags.iter().map(ToString::to_string).collect(),
    };
    let component = BlobRef { digest: Digest::of(b"2"), length: 1 };
    for (new, expect) in [
        (Plugin { kind: Kind::Gateway, ..own.clone() }, "kind skill → gateway".to_owned()),
        (Plugin { component, ..own.clone() }, format!("component {} → {}", short(b"1"), short(b"2"))),
        (Plugin { config: r#"{"a":1}"#.into(), ..own.clone() }, "config.a none → 1".into()),
        (Plugin { protocol: Some("p/1".into()), ..own.clone() }, "protocol none → p/1".into()),
        (Plugin { mount: Some("/a".into()), ..own.clone() }, "mount none → /a".into()),
        (Plugin { datasets: vec!["a".into(), "b".into()], ..own.clone() }, "datasets none → a, b".into()),
        (Plugin { names: vec!["a@b".parse().unwrap()], ..own.clone() }, "names none → a@b".into()),
        (Plugin { expose: Trust::Full, ..own.clone() }, "expose trusted → full".into()),
        (Plugin { instances: Instances::Reuse(9), ..own.clone() }, "instances fresh → reuse 9".into()),
        (Plugin { instances: Instances::Singleton, ..own.clone() }, "instances fresh → singleton".into()),
        (Plugin { on: on(&["n1", "n2"], &[]), ..own.clone() }, "on.labels none → n1, n2".into()),
        (limits(|limits| limits.memory = 1), "limits.memory 67108864 → 1".into()),
        (limits(|limits| limits.deadline_ms = 1), "limits.deadline-ms 30000 → 1".into()),
        (limits(|limits| limits.host_calls = 1), "limits.host-calls 100000 → 1".into()),
        (limits(|limits| limits.host_bytes = 1), "limits.host-bytes 16777216 → 1".into()),
        (limits(|limits| limits.concurrency = 1), "limits.concurrency 256 → 1".into()),
    ] {
        let lines = says(std::slice::from_ref(&own), std::slice::from_ref(&new));
        assert!(lines.contains(&format!("changed   skill/a: {expect}")), "{expect}: {lines:?}");
        assert_eq!(says(std::slice::from_ref(&new), std::slice::from_ref(&new)), Vec::<String>::new());
    }
}

#[test]
fn a_config_is_compared_key_by_key() {
    let with = |config: &str| vec![Plugin { config: config.into(), ..plugin("routing", Kind::Routing) }];
    let line = says(&with(r#"{"a":1,"pick":"failover","gone":[2]}"#), &with(r#"{"pick":"spread","a":1}"#));
    let expect = "changed   routing: config.gone [2] → none; config.pick \"failover\" → \"spread\"";
    assert_eq!(line, [expect]);
}

#[test]
fn rights_come_first_and_slots_after_them() {
    let http = |line: &str| Grants { http: vec![line.into()], ..Grants::default() };
    let keyvalue = Grants { keyvalue: vec!["a".into()], ..Grants::default() };
    let old = [
        Plugin { grants: keyvalue, ..plugin("skill/x", Kind::Skill) },
        plugin("admission", Kind::Admission),
        plugin("gateway/g", Kind::Gateway),
        plugin("sync", Kind::Sync),
    ];
    let new = [
        Plugin { names: vec!["b@d".parse().unwrap()], ..plugin("skill/b", Kind::Skill) },
        plugin("skill/x", Kind::Skill),
        Plugin { grants: http("GET https://a.example"), ..plugin("gateway/g", Kind::Gateway) },
        plugin("admission", Kind::Admission),
    ];
    let changes = between(Some(side(&old)), side(&new), "n1", &[]);
    let added = format!("added     skill/b: component {}; serves b@d", Digest::of(b"1").short());
    let expect = [
        "gateway/g gains: http GET https://a.example",
        "skill/x loses: keyvalue a",
        &added,
        "changed   gateway/g: its rights",
        "changed   skill/x: its rights",
        "removed   sync",
    ];
    assert_eq!(changes.lines(), expect);
    assert_eq!(changes.unchanged, ["admission"]);
    assert_eq!(
        changes.summary(),
        "adds skill/b; changes gateway/g, skill/x; removes sync; gains 1 right; loses 1 right"
    );
    // A slot that goes takes its rights with it, and one that comes brings them.
    assert_eq!(says(&old[..1], &[]), ["skill/x loses: keyvalue a", "removed   skill/x"]);
    assert_eq!(says(&[], &old[..1])[0], "skill/x gains: keyvalue a");
}

#[test]
fn only_what_is_for_the_node_counts() {
    let on = |labels: &[&str], tags: &[&str]| Plugin {
        on: Selector {
            labels: labels.iter().map(ToString::to_string).collect(),
            tags: tags.iter().map(ToString::to_string).collect(),
        },
        grants: Grants { keyvalue: vec!["a".into()], ..Grants::default() },
        ..plugin("skill/a", Kind::Skill)
    };
    for (old, new, tags, expect) in [
        (on(&["n2"], &[]), on(&["n3"], &[]), &[][..], "changes nothing here"),
        (on(&["n2"], &[]), on(&["n1"], &[]), &[], "adds skill/a; gains 1 right"),
        (on(&["n1"], &[]), on(&["n2"], &[]), &[], "removes skill/a; loses 1 right"),
        (on(&[], &["edge"]), on(&[], &[]), &[], "adds skill/a; gains 1 right"),
        (on(&[], &["edge"]), on(&[], &[]), &["edge"], "changes skill/a"),
    ] {
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let (old, new) = ([old], [new]);
        let changes = between(Some(side(&old)), side(&new), "n1", &tags);
        assert_eq!(changes.summary(), expect, "{:?} to {:?}", old[0].on, new[0].on);
    }
}

#[test]
fn a_first_manifest_is_all_new_and_summaries_stay_short() {
    let many: Vec<Plugin> = (0..7).map(|at| plugin(&format!("skill/{at}"), Kind::Skill)).collect();
    let first = between(None, Side { strangers: Trust::Unknown, ..side(&many) }, "n1", &[]);
    assert_eq!(first.summary(), "adds skill/0, skill/1, skill/2, skill/3 and 3 more");
    assert!(first.manifest.is_empty() && first.gains.is_empty() && !first.is_empty());
    let same = between(Some(side(&many)), side(&many), "n1", &[]);
    assert!(same.is_empty());
    assert_eq!(same.unchanged.len(), 7);
    let stricter = between(Some(side(&many)), Side { strangers: Trust::Unknown, ..side(&many) }, "n1", &[]);
    assert_eq!(stricter.lines(), ["changed   strangers pending → unknown"]);
    assert_eq!(stricter.summary(), "changes strangers");
}
