//! A skill or gateway that gets a share of the calls first, and takes the place of the other one when it does as well.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use midplane::words::Digest;
use midplane_tests::command::component;
use midplane_tests::http::{Client, address};
use midplane_tests::policies::acting;
use midplane_tests::process::Process;
use midplane_tests::trial::{Trial, renamed};
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

/// Far above what a busy machine makes of calls: what is compared here are faults.
const ANY_TIME: [&str; 2] = ["--slower-at-most", "900000%"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A node with a skill that adds.
fn adds() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "sum@fabric", "n1"), &[n1]);
    mesh
}

/// A component with the function `add` and this body.
fn adding(mesh: &Mesh, name: &str, body: &str) -> PathBuf {
    let text = format!(
        r#"(component
          (core module $m (func (export "add") (param i64 i64) (result i64) {body}))
          (core instance $i (instantiate $m))
          (func (export "add") (param "x" s64) (param "y" s64) (result s64) (canon lift (core func $i "add"))))"#
    );
    let path = mesh.path(name);
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path
}

const GOOD: &str = "(i64.add (local.get 0) (local.get 1))";

fn digest(path: &Path) -> String {
    Digest::of(&std::fs::read(path).unwrap()).to_string()
}

/// What runs in the slot.
fn runs(node: &Node, slot: &str) -> String {
    let plugins = node.json(["plugins"]);
    let plugin = plugins.as_array().unwrap().iter().find(|plugin| plugin["slot"] == slot).unwrap();
    plugin["component"].as_str().unwrap().to_owned()
}

/// Calls until the trial is over; how many calls failed, and how many there were.
fn call_until_it_ends(node: &Node, trial: &mut Trial) -> (u64, u64) {
    let (mut failed, mut calls) = (0, 0);
    eventually(PATIENCE, || {
        let outcome = node.call("sum@fabric", "add", &["x=3", "y=4"]);
        calls += 1;
        match outcome.code {
            0 => assert_eq!(outcome.stdout, "7\n"),
            _ => failed += 1,
        }
        if trial.ended() { Ok(()) } else { Err("it goes on") }
    });
    (failed, calls)
}

#[test]
fn one_that_does_as_well_is_promoted_and_no_call_is_lost() {
    let mesh = adds();
    let [n1] = mesh.nodes();
    let good = adding(&mesh, "good.wasm", GOOD);
    let words = ["skill/math1", text(&good), "--canary", "40%", "--calls", "20", "-o", "json"];
    let before = runs(n1, "skill/math1");
    let mut trial = Trial::start(n1, &[&words[..], &ANY_TIME].concat());
    let (failed, calls) = call_until_it_ends(n1, &mut trial);
    let (code, report) = trial.ends();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, failed, &report["promoted"]), (Some(0), 0, &json!(true)), "{report}");
    assert_eq!((&report["component"], &report["before"]), (&json!(digest(&good)), &json!(before)));
    let (active, candidate) = (&report["active"], &report["candidate"]);
    let number = |side: &Value, key: &str| side[key].as_u64().unwrap();
    // Two of five calls, and the last ones may have met what was promoted.
    let (others, tried) = (number(active, "calls"), number(candidate, "calls"));
    assert!(tried >= 20 && others + tried <= calls && (tried * 3).abs_diff(others * 2) <= 5, "{report}");
    assert!(number(candidate, "p50-ns") > 0 && number(candidate, "p99-ns") >= number(candidate, "p50-ns"));
    assert_eq!((number(active, "faults"), number(candidate, "faults")), (0, 0));

    // It is a swap like any other.
    assert_eq!(runs(n1, "skill/math1"), digest(&good));
    assert_eq!(n1.json(["status"])["swaps"][0]["slot"], "skill/math1");
    n1.kill();
    n1.start(&[]);
    assert_eq!(runs(n1, "skill/math1"), digest(&good));
    n1.cli(["rollback"]).ok();
    assert_eq!(runs(n1, "skill/math1"), before);
}

#[test]
fn one_that_fails_is_reverted_as_soon_as_that_is_seen() {
    let mesh = adds();
    let [n1] = mesh.nodes();
    let before = runs(n1, "skill/math1");
    let traps = adding(&mesh, "traps.wasm", "unreachable");
    let words = ["skill/math1", text(&traps), "--canary", "50%", "--for", "1h", "--at-least", "5"];
    let mut trial = Trial::start(n1, &words);
    let (failed, _) = call_until_it_ends(n1, &mut trial);
    let (code, report) = trial.ends();
    assert_eq!(code, Some(3), "{report}");
    assert!(
        report.starts_with(&format!("skill/math1 runs component {} as before: ", &before[..12])),
        "{report}"
    );
    assert!(report.contains("faults of the candidate in"), "{report}");
    assert!(failed >= 5, "{failed} failed");
    let again = n1.call("sum@fabric", "add", &["x=3", "y=4"]);
    assert_eq!((again.ok().as_str(), runs(n1, "skill/math1")), ("7\n", before.clone()));
    assert!(n1.json(["status"]).get("swaps").is_none());

    // One that has no such function fails too, though it never traps.
    let math2 = component("skill/math2");
    let words = ["skill/math1", text(&math2), "--canary", "50%", "--for", "1h", "--at-least", "2"];
    let mut trial = Trial::start(n1, &words);
    call_until_it_ends(n1, &mut trial);
    assert_eq!((trial.ends().0, runs(n1, "skill/math1")), (Some(3), before));
}

#[test]
fn one_that_nobody_called_is_reverted_and_says_so() {
    let mesh = adds();
    let [n1] = mesh.nodes();
    let good = adding(&mesh, "good.wasm", GOOD);
    let outcome = n1.cli(["swap", "skill/math1", text(&good), "--canary", "50%", "--for", "200ms"]);
    assert_eq!(outcome.code, 3, "{outcome:?}");
    assert!(
        outcome.stdout.contains("too few calls: 0 of the candidate and 0 of the active one"),
        "{outcome:?}"
    );
}

#[test]
fn whoever_goes_away_takes_it_along_and_so_does_a_restart_or_a_manifest() {
    let mesh = adds();
    let [n1] = mesh.nodes();
    let before = runs(n1, "skill/math1");
    let good = adding(&mesh, "good.wasm", GOOD);
    let words = ["skill/math1", text(&good), "--canary", "50%", "--for", "1h"];
    let start = || Trial::start(n1, &words);
    let adds = || assert_eq!(n1.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");

    // ctrl-c; one at a time.
    let trial = start();
    adds();
    n1.cli(["swap"].iter().chain(&words)).fails(5, "busy");
    trial.interrupt();
    let (code, report) = trial.ends();
    assert!(code == Some(3) && report.contains("interrupted or is gone"), "{code:?} {report}");

    // The command is killed: the seat is free again.
    let mut trial = start();
    trial.kill();
    let trial = eventually(PATIENCE, || {
        let other = n1.cli(["swap", "skill/math1", text(&good), "--canary", "50%", "--for", "1ms"]);
        if other.code == 3 { Ok(start()) } else { Err(other.stderr) }
    });

    // A manifest, or anything else that is put in force.
    mesh.apply(&Manifest::policies().skill("skill/math1", "sum@fabric", "n1"), &[n1]);
    let (code, report) = trial.ends();
    assert!(code == Some(3) && report.contains("something else was put in force"), "{code:?} {report}");
    adds();

    // A restart knows nothing of it.
    let trial = start();
    n1.kill();
    let (code, _) = trial.ends();
    assert_ne!(code, Some(0));
    n1.start(&[]);
    adds();
    assert_eq!(runs(n1, "skill/math1"), before);
    assert!(n1.json(["status"]).get("swaps").is_none());
}

#[test]
fn a_call_in_flight_on_a_reverted_candidate_goes_on() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies().skill("test/skill/endless", "endless@fabric", "n1"), &[n1]);
    let candidate = mesh.path("candidate.wasm");
    std::fs::write(&candidate, renamed(&std::fs::read(component("test/skill/endless")).unwrap())).unwrap();
    let words = ["skill/endless", text(&candidate), "--canary", "99%", "--for", "1h", "-o", "json"];
    let trial = Trial::start(n1, &words);
    // The first call is the active one's, whatever the share; the second is not.
    n1.call("endless@fabric", "one", &[]).ok();
    let mut call = n1.command(["call", "endless@fabric", "count"]);
    let mut call = Process::spawn(call.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = BufReader::new(call.child().stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0");
    trial.interrupt();
    let (code, report) = trial.ends();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (code, &report["active"]["calls"], &report["candidate"]["calls"]),
        (Some(3), &json!(1), &json!(1))
    );
    // More than lies between the guest and its reader.
    let last = lines.nth(200_000).unwrap().unwrap();
    assert_eq!(last, "200001");
}

#[test]
fn a_gateway_is_tried_with_requests() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&["--http", "127.0.0.1:0"]);
    let hello = component("gateway/hello");
    mesh.apply(&Manifest::empty().plugin("gateway/hello", "gateway", &hello, "mount = \"/hello\""), &[n1]);
    let web = address(n1);
    let before = runs(n1, "gateway/hello");

    // Answers of 5xx count, whoever made them.
    let probe = component("test/gateway/probe");
    let words = ["gateway/hello", text(&probe), "--canary", "50%", "--for", "1h", "--at-least", "5"];
    let mut trial = Trial::start(n1, &words);
    eventually(PATIENCE, || {
        let status = Client::to(web).get("/hello/error").status;
        assert!([200, 502].contains(&status), "{status}");
        if trial.ended() { Ok(()) } else { Err("it goes on") }
    });
    let (code, report) = trial.ends();
    assert!(code == Some(3) && report.contains("faults of the candidate"), "{code:?} {report}");
    assert_eq!((Client::to(web).get("/hello/error").status, runs(n1, "gateway/hello")), (200, before));

    let same = mesh.path("same.wasm");
    std::fs::write(&same, renamed(&std::fs::read(&hello).unwrap())).unwrap();
    let words = ["gateway/hello", text(&same), "--canary", "50%", "--calls", "20"];
    let mut trial = Trial::start(n1, &[&words[..], &ANY_TIME].concat());
    eventually(PATIENCE, || {
        assert_eq!(Client::to(web).get("/hello").status, 200);
        if trial.ended() { Ok(()) } else { Err("it goes on") }
    });
    let (code, report) = trial.ends();
    assert_eq!((code, runs(n1, "gateway/hello")), (Some(0), digest(&same)), "{report}");
    assert_eq!(Client::to(web).get("/hello").status, 200);
}

#[test]
fn what_cannot_be_tried_is_refused_by_name() {
    let mesh = adds();
    let [n1] = mesh.nodes();
    let good = adding(&mesh, "good.wasm", GOOD);
    let routing = mesh.path("routing.wasm");
    std::fs::write(&routing, acting(&[])).unwrap();
    for (words, code, says) in [
        (vec!["routing", text(&routing), "--canary", "10%"], 2, "--shadow 60s for policies"),
        (vec!["skill/math1", text(&good), "--canary", "100%"], 2, "both have to be called"),
        (vec!["skill/math1", text(&good), "--canary", "0%"], 2, "both have to be called"),
        (vec!["skill/math1", text(&good), "--canary", "10"], 2, "a share is a percentage"),
        (vec!["skill/math1", text(&good), "--canary", "10%", "--calls", "3"], 2, "it is judged by"),
        (vec!["skill/math1", text(&good), "--calls", "30"], 2, "--canary"),
        (vec!["skill/math1", text(&good), "--canary", "10%", "--shadow", "1s"], 2, "cannot be used with"),
        (vec!["skill/nothing", text(&good), "--canary", "10%"], 4, "is no slot of this node"),
        (vec!["skill/math1", text(&component("test/skill/caller")), "--canary", "10%"], 3, "missing-grant"),
        (vec!["skill/math1", text(&component("skill/math1")), "--canary", "10%"], 2, "already"),
    ] {
        let words: Vec<&str> = ["swap"].into_iter().chain(words).collect();
        let outcome = n1.cli(&words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{words:?}: {outcome:?}");
        assert!(outcome.stderr.contains(says), "{words:?}: {outcome:?}");
        assert_eq!(n1.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    }
}
