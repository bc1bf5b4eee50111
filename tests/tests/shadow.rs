//! A policy in the shadow of the one in force: told and asked the same, and heard by nobody.

use std::path::{Path, PathBuf};

use midplane_tests::command::component;
use midplane_tests::policies::acting;
use midplane_tests::trial::{Trial, renamed};
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The component of a plugin under another digest.
fn same(mesh: &Mesh, name: &str) -> PathBuf {
    let path = mesh.path(&format!("{}.wasm", name.replace('/', "-")));
    std::fs::write(&path, renamed(&std::fs::read(component(name)).unwrap())).unwrap();
    path
}

/// A routing policy that does what the test says.
fn acts(mesh: &Mesh, name: &str, acts: &[(&str, &str)]) -> PathBuf {
    let path = mesh.path(name);
    std::fs::write(&path, acting(acts)).unwrap();
    path
}

/// Interrupts it, and reads its report.
#[track_caller]
fn report(trial: Trial) -> Value {
    trial.interrupt();
    let (code, report) = trial.ends();
    assert_eq!(code, Some(0), "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["ended"], "interrupted");
    report
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("no {key} in {report}"))
}

/// Nothing was different, and there was something that could have been.
#[track_caller]
fn all_equal(report: &Value, least: u64) {
    assert_eq!((number(report, "different"), &report["examples"]), (0, &json!([])), "{report:#}");
    assert!(number(report, "equal") >= least, "{report:#}");
    for key in ["unanswered", "missed", "only-active", "only-candidate"] {
        assert_eq!(number(report, key), 0, "{key}: {report:#}");
    }
    let (active, candidate) = (&report["active"], &report["candidate"]);
    assert_eq!((&active["calls"], &active["fuel"]), (&candidate["calls"], &candidate["fuel"]), "{report:#}");
    assert!(number(candidate, "p99-ns") >= number(candidate, "p50-ns") && number(candidate, "p50-ns") > 0);
    assert_eq!((number(active, "faults"), number(candidate, "faults")), (0, 0));
}

#[test]
fn the_same_routing_policy_decides_the_same_while_links_come_and_go() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    let manifest = Manifest::policies().skill("skill/math1", "math1@fabric", "n3");
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&manifest, &[n1, n2, n3]);
    n1.reaches("math1@fabric");
    let candidate = same(&mesh, "routing/path-vector");
    let words = ["routing", text(&candidate), "--shadow", "1h", "-o", "json"];
    let trial = Trial::start(n1, &words);
    n1.reaches("math1@fabric");
    assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    // Each is a question: nothing is known of it yet.
    for number in 0..5 {
        n1.call(&format!("nobody{number}@fabric"), "f", &[]).fails(4, "no-route");
    }
    n3.kill();
    eventually(PATIENCE, || {
        let route = n1.json(["routes", "math1@fabric"])[0].clone();
        if route.get("unroutable").is_some() { Ok(()) } else { Err(route.to_string()) }
    });
    n3.start(&["--peer", &n2.peer()]);
    n1.reaches("math1@fabric");
    assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=5"]).ok(), "8\n");
    let report = report(trial);
    all_equal(&report, 12);
    assert!(number(&report, "questions") >= 5, "{report:#}");
    // It was never in force.
    assert!(n1.json(["status"]).get("swaps").is_none());
    n1.cli(["rollback"]).fails(4, "not-found");
}

#[test]
fn every_kind_can_have_a_shadow_and_is_told_what_it_asked_for() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    let manifest = Manifest::policies().sync(&["config"], "");
    n1.start(&[]);
    mesh.apply(&manifest, &[n1]);
    let value = mesh.path("value");
    std::fs::write(&value, "one").unwrap();
    let put = |node: &Node, key: &str| {
        node.cli(["dataset", "put", "config", key, "-f", text(&value)]).ok();
    };
    put(n1, "before");
    let start = |slot: &str, component: &str| {
        let candidate = same(&mesh, component);
        Trial::start(n1, &[slot, text(&candidate), "--shadow", "1h", "-o", "json"])
    };
    // Two listen at a time, whatever they are.
    let (sync, admission) = (start("sync", "sync/lww"), start("admission", "admission/basic"));
    let other = same(&mesh, "discovery/static");
    let third = n1.cli(["swap", "discovery", text(&other), "--shadow", "1h"]);
    assert!(third.code == 5 && third.stderr.contains("recordings or shadows"), "{third:?}");
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&manifest, &[n2]);
    n1.links_to(n2);
    put(n1, "here");
    put(n2, "there");
    let arrives = |node: &Node, key: &str| {
        eventually(PATIENCE, || {
            let got = node.cli(["dataset", "get", "config", key]);
            if got.code == 0 { Ok(()) } else { Err(got.stderr) }
        });
    };
    arrives(n1, "there");
    arrives(n2, "here");
    arrives(n2, "before");
    let (sync, admission) = (report(sync), report(admission));
    let discovery = start("discovery", "discovery/static");
    n2.kill();
    n2.start(&["--peer", &n1.peer()]);
    n1.links_to(n2);
    let discovery = report(discovery);
    all_equal(&sync, 5);
    all_equal(&admission, 2);
    all_equal(&discovery, 2);
    assert!(number(&admission, "questions") >= 1, "{admission:#}");
    // What the shadow of sync wanted to write was written once.
    let entries = n1.json(["dataset", "ls", "config"]);
    assert_eq!(entries.as_array().unwrap().len(), 3, "{entries}");
    assert_eq!(n1.json(["status"])["conflicts"], 0);
}

#[test]
fn another_policy_decides_something_else_and_only_the_report_says_so() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "math1@fabric", "n1"), &[n1]);
    // It answers every question with `local`, and has no plans to change.
    let other = acts(&mesh, "other.wasm", &[]);
    let words = ["routing", text(&other), "--shadow", "1h", "--examples", "3", "-o", "json"];
    let trial = Trial::start(n1, &words);
    for number in 0..4 {
        n1.call(&format!("nobody{number}@fabric"), "f", &[]).fails(4, "no-route");
    }
    assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    let report = report(trial);
    assert!(number(&report, "different") >= 4 && number(&report, "questions") >= 4, "{report:#}");
    let examples = report["examples"].as_array().unwrap();
    assert_eq!(examples.len(), 3, "{report:#}");
    for example in examples {
        assert_ne!(example["active"], example["candidate"], "{example}");
    }

    // For people, and to the end of its time.
    let words = ["swap", "routing", text(&other), "--shadow", "200ms", "--timeout", "60s"];
    let shown = n1.cli(words).ok();
    assert!(shown.contains("in the shadow of routing (") && shown.contains("its time was over"), "{shown}");
    assert!(shown.contains("  active     ") && shown.contains("  candidate  "), "{shown}");
}

#[test]
fn a_candidate_that_traps_hurts_nobody() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "math1@fabric", "n1"), &[n1]);
    for (act, limit) in [("unreachable", "trap"), ("(call $spin)", "out-of-fuel")] {
        let traps = acts(&mesh, "traps.wasm", &[("DECIDE", act)]);
        let words = ["routing", text(&traps), "--shadow", "1h", "-o", "json"];
        let mut trial = Trial::start(n1, &words);
        // It is started again a few times, and then it is enough.
        let mut asked = 0;
        eventually(PATIENCE, || {
            asked += 1;
            n1.call(&format!("nobody{asked}@{limit}"), "f", &[]).fails(4, "no-route");
            if trial.ended() { Ok(()) } else { Err("it goes on") }
        });
        let (code, report) = trial.ends();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((code, &report["ended"]), (Some(1), &json!("traps")), "{report:#}");
        assert_eq!((number(&report["candidate"], "faults"), number(&report["active"], "faults")), (9, 0));
        assert_eq!(report["last-fault"]["code"], limit, "{report:#}");
        assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    }
    let plugins = n1.json(["plugins"]);
    assert!(plugins.as_array().unwrap().iter().all(|plugin| plugin["restarts"] == 0), "{plugins}");

    // One that cannot start is refused before the active one is touched.
    let dead = acts(&mesh, "dead.wasm", &[("INIT", "unreachable")]);
    let events = || n1.json(["plugins"])[2]["served"].clone();
    let before = events();
    n1.cli(["swap", "routing", text(&dead), "--shadow", "1s"]).fails(1, "trap");
    assert_eq!(events(), before);
    let math1 = component("skill/math2");
    let wrong = n1.cli(["swap", "skill/math1", text(&math1), "--shadow", "1s"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("--canary 10% for skills"), "{wrong:?}");
}

#[test]
fn a_shadow_ends_with_its_slot_and_its_node() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    let candidate = same(&mesh, "routing/path-vector");
    let words = ["routing", text(&candidate), "--shadow", "1h", "-o", "json"];
    let trial = Trial::start(n1, &words);
    let other = acts(&mesh, "other.wasm", &[]);
    n1.cli(["swap", "routing", text(&other)]).ok();
    let (code, report) = trial.ends();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["ended"]), (Some(1), &json!("replaced")), "{report:#}");
    n1.cli(["rollback"]).ok();

    // A restart leaves the active one alone.
    let trial = Trial::start(n1, &words);
    n1.kill();
    assert_ne!(trial.ends().0, Some(0));
    n1.start(&[]);
    assert!(n1.json(["status"]).get("swaps").is_none());

    // Over links, by an operator's key.
    n1.links_to(n2);
    n1.reaches(&format!("{}@node", n2.id()));
    let key = mesh.operator_key();
    let on = ["--on", "n2", "--key", text(&key)];
    let outcome = n1.json(on.iter().chain(&["swap", "routing", text(&candidate), "--shadow", "1s"]));
    assert_eq!((&outcome["ended"], number(&outcome, "different")), (&json!("time"), 0), "{outcome:#}");
}
