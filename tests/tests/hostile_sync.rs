//! A sync policy that does what it must not: what becomes of the wish, and that those beside it notice nothing.

use midplane_tests::command::component;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

fn dataset(node: &Node, words: &[&str]) -> midplane_tests::Outcome {
    node.cli(["dataset"].iter().chain(words))
}

/// Waits until the slot keeps something again; its instance may be on its way back.
#[track_caller]
fn keeps(node: &Node, key: &str) {
    eventually(PATIENCE, || match dataset(node, &["put", "own", key, "kept"]) {
        outcome if outcome.code == 0 => Ok(()),
        outcome => Err(outcome.stderr),
    });
    assert_eq!(dataset(node, &["get", "own", key]).ok(), "kept");
}

/// Has each of these done on a node of its own, which ends the instance: nobody hears that the wish was followed, of its rows only those
/// are left that were in order, and those beside it go on. A few at a time: the pauses before a new instance grow.
#[track_caller]
fn ends(acts: &[(&str, &str)], left: &[&str]) {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = start(&mesh);
    keeps(n1, "first");
    for (number, (act, says)) in acts.iter().enumerate() {
        let outcome = dataset(n1, &["put", "own", act, "value"]);
        println!("{act}: {}", outcome.stderr.trim());
        let said = outcome.fails(5, "busy");
        assert!(said.contains("hostile ended before it answered") && said.contains(says), "{act}: {said}");
        // On this node and with the other one.
        let value = format!("round {number}");
        dataset(n1, &["put", "config", "motd", &value]).ok();
        eventually(PATIENCE, || match dataset(n2, &["get", "config", "motd"]) {
            outcome if outcome.stdout == value => Ok(()),
            outcome => Err(format!("{act}: {outcome:?}")),
        });
        keeps(n1, "after");
        let listed = n1.json(["dataset", "ls", "own"]);
        let keys: Vec<_> =
            listed.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
        let known = |key: &&str| ["after", "first"].contains(key) || left.contains(key);
        assert!(keys.iter().all(known), "{act} left something behind: {keys:?}");
    }
    assert_eq!(n1.json(["status"])["links"], 1);
}

fn start(mesh: &Mesh) -> [&Node; 2] {
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let hostile = component("test/sync/hostile");
    let more = "protocol = \"hostile/1\"\ndatasets = [\"own\"]\nlimits.memory = \"32MiB\"";
    let manifest = Manifest::policies().sync(&["config"], "").plugin("hostile", "sync", &hostile, more);
    mesh.apply(&manifest, &[n1, n2]);
    n1.links_to(n2);
    [n1, n2]
}

#[test]
fn an_instance_that_breaks_down_is_replaced() {
    ends(&[("trap", "a panic or abort"), ("loop", "the fuel for one call"), ("grow", "limits.memory")], &[]);
}

#[test]
fn more_than_there_may_be_is_not_kept() {
    ends(&[("million", "limits.memory"), ("rows", "the fuel for one call")], &[]);
    // Rows are durable before anything else is looked at.
    let acts = [("loads", "more than 64 things at once"), ("message", "the limit is 61440")];
    ends(&acts, &["loads", "message"]);
}

#[test]
fn rows_that_cannot_be_are_not_kept() {
    ends(
        &[
            ("key", "a key that no entry can have"),
            ("line", "a key that no entry can have"),
            ("value", "more than 32768 bytes of value"),
            ("meta", "16384 of metadata"),
        ],
        &[],
    );
}

#[test]
fn rows_of_others_are_not_touched() {
    ends(
        &[
            ("theft", "config/motd: a dataset that the slot does not have"),
            ("erase", "config/motd: a dataset that the slot does not have"),
        ],
        &[],
    );
}

#[test]
fn what_is_only_nonsense_is_ignored() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = start(&mesh);
    dataset(n1, &["put", "config", "motd", "hello"]).ok();
    for act in ["stranger", "answers"] {
        dataset(n1, &["put", "own", act, "value"]).ok();
        assert_eq!(dataset(n1, &["get", "own", act]).ok(), "value");
    }
    for node in [n1, n2] {
        eventually(PATIENCE, || match dataset(node, &["get", "config", "motd"]) {
            outcome if outcome.stdout == "hello" => Ok(()),
            outcome => Err(outcome.stderr),
        });
    }
    let all = n1.json(["dataset", "ls"]);
    assert!(all.as_array().unwrap().iter().all(|one| one["conflicts"] == 0), "{all}");
    assert!(!n1.said().contains("starts again"), "{}", n1.said());
}
