//! Back to an earlier generation: at once, without a network, for one node, until the next manifest.

use std::path::{Path, PathBuf};

use midplane_tests::{Manifest, Mesh, Node};
use serde_json::{Value, json};

/// A node on which a skill that adds was replaced by one that counts.
fn replaced() -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&adds(), &[n1]);
    mesh.apply(&counts(), &[n1]);
    mesh
}

fn adds() -> Manifest {
    Manifest::policies().skill("skill/math1", "sum@fabric", "n1")
}

fn counts() -> Manifest {
    Manifest::policies().skill("skill/math2", "sum@fabric", "n1")
}

#[track_caller]
fn it_adds(node: &Node) {
    assert_eq!(node.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
}

#[track_caller]
fn it_counts(node: &Node) {
    assert_eq!(node.call("sum@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n");
}

/// What is said of the generation: version, what it is held instead of, the highest that was accepted.
fn says(node: &Node) -> Value {
    let status = node.json(["status"]);
    json!([status["generation"], status["held-instead-of"], status["floor"]])
}

fn last_event(node: &Node, name: &str) -> Value {
    let events = node.cli(["events", "-o", "json"]).ok();
    let mut events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.rfind(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn what_ran_before_is_back_at_once_and_held_over_a_crash_until_the_next_manifest() {
    let mesh = replaced();
    let [n1] = mesh.nodes();
    it_counts(n1);
    let text = n1.cli(["rollback"]).ok();
    assert!(
        text.starts_with("generation 1 is in force again, held instead of 2; before it ran 2\n"),
        "{text}"
    );
    it_adds(n1);
    assert_eq!(says(n1), json!([1, 2, 2]));
    let event = last_event(n1, "generation-rolled-back");
    assert_eq!((&event["from"], &event["to"], &event["instead-of"]), (&json!(2), &json!(1), &json!(2)));
    let control = last_event(n1, "control");
    assert_eq!(control["verb"], "rollback");

    // It needs nobody, and neither a crash nor a collection ends it.
    n1.cli(["blob", "gc"]).ok();
    n1.kill();
    n1.start(&[]);
    it_adds(n1);
    assert_eq!(says(n1), json!([1, 2, 2]));
    let status = n1.cli(["status"]).ok();
    assert!(status.contains("generation  1, held instead of 2 (highest accepted: 2)"), "{status}");
    assert!(status.contains("warning     generation 1 is held by a rollback, 2 should run"), "{status}");
    let history = n1.cli(["history"]).ok();
    assert!(history.lines().nth(1).unwrap().starts_with("2           -  "), "{history}");
    assert!(history.lines().nth(2).unwrap().starts_with("1           yes, instead of 2  "), "{history}");
    assert_eq!(n1.json(["history"])[1]["instead-of"], 2);

    // What was accepted once does not come in again from outside, however old what runs is.
    for version in ["1", "2"] {
        let file = adds().write(mesh.path("old.toml"));
        n1.cli(["apply", "--version", version, file.to_str().unwrap()]).fails(3, "stale-version");
    }
    assert_eq!(says(n1), json!([1, 2, 2]));

    // Returning ends it, and so does the next manifest.
    let back = n1.json(["rollback", "2"]);
    assert_eq!((&back["from"], &back["to"], back.get("instead-of")), (&json!(1), &json!(2), None));
    it_counts(n1);
    assert_eq!(says(n1), json!([2, null, 2]));
    assert_eq!(n1.json(["status"])["warnings"], json!([]));
    n1.cli(["rollback"]).ok();
    mesh.apply(&counts(), &[n1]);
    it_counts(n1);
    assert_eq!(says(n1), json!([3, null, 3]));
    // What ran before it is what was held, not what somebody ran away from.
    assert_eq!(n1.json(["rollback"])["to"], 1);
    it_adds(n1);
}

/// A rollback that is to be refused, and to change nothing.
#[track_caller]
fn refused(node: &Node, words: &[&str], code: i32, word: &str, says: &str) {
    let state = || json!([self::says(node), node.json(["history"])]);
    let before = state();
    let outcome = node.cli(words);
    let message = outcome.fails(code, word);
    assert!(message.contains(says), "{message}");
    assert_eq!(state(), before, "{message}");
    assert!(last_event(node, "generation-refused")["why"].as_str().unwrap().starts_with(word));
}

#[test]
fn there_is_no_way_back_to_what_is_not_there() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    refused(n1, &["rollback"], 4, "not-found", "nothing was ever applied on this node");
    mesh.apply(&adds(), &[n1]);
    refused(n1, &["rollback"], 4, "not-found", "nothing from before generation 1 is kept");
    mesh.apply(&counts(), &[n1]);
    refused(n1, &["rollback", "2"], 2, "usage", "generation 2 is the one that runs here already");
    refused(n1, &["rollback", "7"], 4, "not-found", "generation 7 is not kept on this node");
    assert_eq!(n1.cli(["rollback", "x"]).code, 2);
    it_counts(n1);

    // A component that is gone, on a node without peers to ask.
    let math1 = n1.json(["rollback"]);
    assert_eq!(math1["to"], 1);
    let plugins = n1.json(["plugins"]);
    let digest = |slot: &str| {
        let plugin = plugins.as_array().unwrap().iter().find(|plugin| plugin["slot"] == slot);
        plugin.unwrap()["component"].as_str().unwrap().to_owned()
    };
    let digest = digest("skill/math1");
    n1.cli(["rollback", "2"]).ok();
    let files = files(&n1.directory().join("blobs"), &digest);
    assert!(!files.is_empty());
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    refused(n1, &["rollback"], 4, "blob-missing", &digest[..8]);
    it_counts(n1);

    // A manifest on the disk that is not what was applied.
    std::fs::write(n1.directory().join("generations/1.manifest"), b"other").unwrap();
    refused(n1, &["rollback"], 3, "digest-mismatch", "1.manifest is not what was published");
    std::fs::remove_file(n1.directory().join("generations/1.manifest")).unwrap();
    refused(n1, &["rollback"], 4, "not-found", "1.manifest is missing");
    it_counts(n1);
    n1.stop();
    n1.cli(["rollback"]).fails(5, "not-running");
}

/// The files below a directory whose path says this digest.
fn files(directory: &Path, digest: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.to_string_lossy().replace('/', "").contains(&digest[2..]) {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_was_revoked_since_does_not_come_back() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let other = mesh.path("other.key");
    let other = other.to_str().unwrap();
    n1.cli(["key", "new", other]).ok();
    n1.cli(["mesh", "operator", "add", other, "--role", "deploy"]).ok();
    let file = adds().write(mesh.path("adds.toml"));
    n1.cli(["apply", file.to_str().unwrap(), "--key", other]).ok();
    mesh.apply(&counts(), &[n1]);
    n1.cli(["rollback"]).ok();
    n1.cli(["rollback", "2"]).ok();
    n1.cli(["mesh", "revoke", other]).ok();
    refused(n1, &["rollback"], 3, "unknown-key", "which root version 3 revokes");
    it_counts(n1);
}

#[test]
fn an_operator_who_may_not_deploy_rolls_back_a_node_from_elsewhere() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let on_n2 = |skill: &str| Manifest::policies().skill(skill, "sum@fabric", "n2");
    mesh.apply(&on_n2("skill/math1"), &[n1, n2]);
    mesh.apply(&on_n2("skill/math2"), &[n1, n2]);
    let operator = mesh.path("operate.key");
    let operator = operator.to_str().unwrap();
    n1.cli(["key", "new", operator]).ok();
    n1.cli(["mesh", "operator", "add", operator, "--role", "operate"]).ok();
    n1.links_to(n2);
    midplane_tests::eventually(midplane_tests::PATIENCE, || {
        let root = n2.json(["status"])["root"].clone();
        if root == 2 { Ok(()) } else { Err(format!("n2 has root {root}")) }
    });
    n1.reaches("sum@fabric");
    let on = ["--on", "n2", "--key", operator];
    assert_eq!(n1.json(on.iter().chain(&["rollback"]))["instead-of"], 2);
    assert_eq!((says(n1), says(n2)), (json!([2, null, 2]), json!([1, 2, 2])));
    n1.reaches("sum@fabric");
    it_adds(n1);
    let control = last_event(n2, "control");
    assert_eq!((&control["verb"], &control["role"]), (&json!("rollback"), &json!("operate")));
}

#[test]
fn a_rollback_that_is_signed_is_the_next_version_of_the_mesh() {
    let mesh = replaced();
    let [n1] = mesh.nodes();
    it_counts(n1);
    let text = n1.cli(["rollback", "--sign"]).ok();
    assert!(text.starts_with("generation 3 is in force and says what 1 said; before it ran 2\n"), "{text}");
    it_adds(n1);
    // Nothing is held: it is what everybody should run, and the next one comes after it.
    assert_eq!(says(n1), json!([3, null, 3]));
    assert_eq!(last_event(n1, "generation-applied")["to"], 3);
    let back = n1.json(["rollback", "2", "--sign"]);
    assert_eq!((&back["from"], &back["to"], back.get("instead-of")), (&json!(3), &json!(4), None));
    it_counts(n1);
    n1.kill();
    n1.start(&[]);
    it_counts(n1);

    // From a hold the version after all that was accepted is signed, and the hold is over.
    n1.cli(["rollback"]).ok();
    it_adds(n1);
    assert_eq!(n1.json(["rollback", "4", "--sign"])["to"], 5);
    it_counts(n1);
    assert_eq!(says(n1), json!([5, null, 5]));
    n1.cli(["rollback", "2", "--sign"]).fails(4, "not-found");

    // Not with any key, and not what was changed on the disk.
    let other = mesh.path("other.key");
    let other = other.to_str().unwrap();
    n1.cli(["key", "new", other]).ok();
    n1.cli(["rollback", "--sign", "--key", other]).fails(3, "unknown-key");
    std::fs::write(n1.directory().join("generations/3.manifest"), b"other").unwrap();
    n1.cli(["rollback", "3", "--sign"]).fails(3, "digest-mismatch");
    it_counts(n1);
}

#[test]
fn what_a_far_node_says_it_ran_is_signed_only_when_it_was() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    let on_n2 = |skill: &str| Manifest::policies().skill(skill, "sum@fabric", "n2");
    mesh.apply(&on_n2("skill/math1"), &[n1, n2]);
    mesh.apply(&on_n2("skill/math2"), &[n1, n2]);
    n1.reaches("sum@fabric");
    let key = mesh.operator_key();
    let on = ["--on", "n2", "--key", key.to_str().unwrap()];
    assert_eq!(n1.json(on.iter().chain(&["rollback", "--sign"]))["to"], 3);
    n1.reaches("sum@fabric");
    it_adds(n1);
    // By a root that does not name who had signed it, it is not signed again.
    let other = mesh.path("other.key");
    let other = other.to_str().unwrap();
    n1.cli(["key", "new", other]).ok();
    n1.cli(["mesh", "operator", "add", other, "--role", "deploy"]).ok();
    n1.cli(["mesh", "revoke", key.to_str().unwrap()]).ok();
    let on = ["--on", "n2", "--key", other];
    midplane_tests::eventually(midplane_tests::PATIENCE, || {
        let root = n2.json(["status"])["root"].clone();
        if root == 3 { Ok(()) } else { Err(format!("n2 has root {root}")) }
    });
    n1.cli(on.iter().chain(&["rollback", "--sign"])).fails(3, "unknown-key");
}
