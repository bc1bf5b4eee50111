//! Operators and nodes that they cannot walk to: n1 — n2 — n3, where n1 and n3 only dial.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use midplane_tests::process::Process;
use midplane_tests::{Manifest, Mesh, Node, Outcome, PATIENCE, eventually};
use serde_json::{Value, json};

fn math() -> Manifest {
    Manifest::policies().skill("skill/math1", "math1@fabric", "n3")
}

/// Three nodes in a line; the outer ones dial the one in the middle and are dialled by nobody.
fn line() -> Mesh {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&math(), &[n1, n2, n3]);
    for (from, to) in [(n1, n3), (n3, n1)] {
        from.reaches(&own_name(to));
    }
    mesh
}

fn own_name(node: &Node) -> String {
    format!("{}@node", node.id())
}

/// Runs a command on one node for another, with this key.
fn on(from: &Node, to: &str, key: &Path, words: &[&str]) -> Outcome {
    let head = ["--on", to, "--key", key.to_str().unwrap()];
    from.cli(head.iter().chain(words))
}

/// A new key.
fn key(mesh: &Mesh, node: &Node, name: &str) -> (PathBuf, String) {
    let path = mesh.path(name);
    let made = node.json(["key", "new", path.to_str().unwrap()]);
    (path, made[0]["id"].as_str().unwrap().to_owned())
}

#[test]
fn a_leaf_that_nobody_can_dial_is_asked_and_changed_from_the_other_end() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let operator = mesh.operator_key();
    let id = n3.id();
    // By label, by id and by the beginning of it.
    for word in ["n3", &id, &id[..8]] {
        let status = on(n1, word, &operator, &["-o", "json", "status"]).json();
        assert_eq!((&status["node"], &status["label"]), (&json!(id), &json!("n3")), "{word}");
    }
    let peers = on(n1, "n3", &operator, &["-o", "json", "peers"]).json();
    assert_eq!((peers[0]["node"].as_str().unwrap(), peers.as_array().unwrap().len()), (&*n2.id(), 1));
    let plugins = on(n1, "n3", &operator, &["-o", "json", "plugins"]).json();
    assert!(plugins.as_array().unwrap().iter().any(|plugin| plugin["slot"] == "skill/math1"));
    let routes = on(n1, "n3", &operator, &["-o", "json", "routes"]).json();
    assert_eq!((&routes[0]["name"], &routes[0]["local"]), (&json!("math1@fabric"), &json!(true)));
    // Calls begin where they are asked for.
    assert_eq!(on(n1, "n3", &operator, &["call", "math1@fabric", "add", "x=3", "y=4"]).ok(), "7\n");
    assert!(on(n1, "n3", &operator, &["inspect", "skill/math1"]).ok().contains("add(x: s64"));

    // A manifest with a component that is nowhere but here, and larger than a frame.
    let more = math().skill("skill/math2", "math2@fabric", "n3");
    let file = more.write(mesh.path("more.toml"));
    let applied = on(n1, "n3", &operator, &["-o", "json", "apply", file.to_str().unwrap()]).json();
    assert_eq!(applied["added"], json!(["skill/math2"]));
    assert_eq!(n3.json(["status"])["generation"], applied["to"]);
    n1.reaches("math2@fabric");
    // The same on the node itself, by its own name.
    assert_eq!(on(n1, "n1", &operator, &["-o", "json", "status"]).json()["label"], "n1");
}

#[test]
fn a_log_is_followed_over_three_nodes() {
    let mesh = line();
    let [n1, _, n3] = mesh.nodes();
    let key = mesh.operator_key();
    let words = ["--on", "n3", "--key", key.to_str().unwrap(), "logs", "-f", "-n", "1"];
    let mut follow = Process::spawn(n1.command(words).stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut lines = BufReader::new(follow.child().stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().is_ok(), "a line of the past");
    mesh.apply(&math().skill("skill/math2", "math2@fabric", "n3"), &[n3]);
    assert!(lines.any(|line| line.unwrap().contains("generation 2 is published")));
    follow.kill();
    // The leaf does not go on writing to nobody.
    eventually(PATIENCE, || {
        let status = on(n1, "n3", &key, &["status"]);
        if status.code == 0 { Ok(()) } else { Err(status.stderr) }
    });
}

#[test]
fn a_node_that_is_down_is_told_soon() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let (operator, id) = (mesh.operator_key(), n3.id());
    // Killed: nobody has noticed yet.
    n3.kill();
    for words in [&["status"][..], &["logs", "-f"]] {
        let outcome = on(n1, "n3", &operator, words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (5, ""), "{outcome:#?}");
    }
    n3.start(&["--peer", &n2.peer()]);
    n1.reaches(&own_name(n3));
    eventually(PATIENCE, || {
        let status = on(n1, "n3", &operator, &["status"]);
        if status.code == 0 { Ok(()) } else { Err(status.stderr) }
    });
    // Stopped: everybody was told.
    n3.stop();
    eventually(PATIENCE, || {
        let outcome = on(n1, &id, &operator, &["status"]);
        if outcome.stderr.starts_with("unreachable: ") { Ok(()) } else { Err(format!("{outcome:#?}")) }
    });
    assert_eq!(on(n1, &id, &operator, &["status"]).code, 5);
    // Nobody at all.
    on(n1, "nobody", &operator, &["status"]).fails(4, "not-found");
    let stranger = "a".repeat(52);
    assert_eq!(on(n1, &stranger, &operator, &["status"]).code, 5);
}

#[test]
fn only_operators_are_obeyed() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let (unknown, _) = key(&mesh, n1, "unknown.key");
    let before = |node: &Node| -> Value { node.json(["status"])["generation"].take() };
    let generation = before(n3);
    on(n1, "n3", &unknown, &["status"]).fails(3, "unknown-key");
    // Neither an owner nor a node is an operator, and trust is no role.
    let message = on(n1, "n3", &n1.directory().join("owner.key"), &["status"]);
    assert!(message.fails(3, "unknown-key").contains("an owner"), "{message:#?}");
    for node in [n1, n2, n3] {
        on(n1, "n3", &node.directory().join("node.key"), &["status"]).fails(3, "unknown-key");
    }
    // Without any key.
    let message = n2.cli(["--on", "n3", "status"]);
    assert!(message.fails(2, "usage").contains("--key FILE or MIDPLANE_KEY"), "{message:#?}");
    n2.cli(["--on", "n3", "--key", "/nowhere", "status"]).fails(4, "not-found");
    // What is for this machine stays on this machine.
    n1.cli(["--on", "n3", "key", "show"]).fails(2, "usage");
    assert_eq!(before(n3), generation);
}

#[test]
fn roles_come_with_a_root_that_nodes_hand_on() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let has = |node: &Node, version: u64| {
        eventually(PATIENCE, || {
            let root = node.json(["status"])["root"].clone();
            if root == version { Ok(()) } else { Err(format!("{} has root {root}", node.label())) }
        });
    };
    let (viewer, viewer_id) = key(&mesh, n1, "viewer.key");
    on(n1, "n3", &viewer, &["status"]).fails(3, "unknown-key");
    // A node that is away hears of it when it is back.
    n3.stop();
    let file = mesh.path("root.signed");
    let out = file.to_str().unwrap();
    let add = ["mesh", "operator", "add", &viewer_id, "--role", "view", "--out", out];
    let updated = n1.json(add);
    assert_eq!((&updated["from"], &updated["to"], &updated["operators"]), (&json!(1), &json!(2), &json!(2)));
    has(n2, 2);
    n3.start(&["--peer", &n2.peer()]);
    has(n3, 2);
    n1.reaches(&own_name(n3));
    let status = || on(n1, "n3", &viewer, &["-o", "json", "status"]);
    eventually(PATIENCE, || if status().code == 0 { Ok(()) } else { Err(status().stderr) });
    // A view is a view.
    let manifest = math().write(mesh.path("refused.toml"));
    let generation = n3.json(["status"])["generation"].clone();
    let message = on(n1, "n3", &viewer, &["apply", manifest.to_str().unwrap()]);
    assert_eq!(message.code, 3, "{message:#?}");
    on(n1, "n3", &viewer, &["call", "math1@fabric", "add", "x=3", "y=4"]).fails(3, "not-allowed");
    assert_eq!(n3.json(["status"])["generation"], generation);
    // The same again is refused, here and there.
    for node in ["n1", "n3"] {
        let again = on(n1, node, &mesh.operator_key(), &["mesh", "update", out]);
        again.fails(3, "stale-version");
    }
    on(n1, "n3", &viewer, &["mesh", "update", out]).fails(3, "not-allowed");
    // Only owners make roots.
    let (other, _) = key(&mesh, n1, "other.key");
    let forged =
        ["mesh", "operator", "add", &viewer_id, "--role", "deploy", "--owner", other.to_str().unwrap()];
    n1.cli(forged).fails(3, "unknown-key");
    // On a node that does not run, too; and an operator that is gone is gone everywhere.
    n1.stop();
    n1.cli(["mesh", "operator", "rm", &viewer_id]).ok();
    n1.start(&["--peer", &n2.peer()]);
    for node in [n1, n2, n3] {
        has(node, 3);
    }
    n1.reaches(&own_name(n3));
    eventually(PATIENCE, || {
        let outcome = status();
        if outcome.stderr.contains("unknown-key") { Ok(()) } else { Err(format!("{outcome:#?}")) }
    });
    n3.kill();
    n3.start(&["--peer", &n2.peer()]);
    assert_eq!(n3.json(["status"])["root"], 3, "after a crash");
}

#[test]
fn a_revoked_node_is_out_everywhere() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    n1.cli(["mesh", "revoke", &n3.id()]).ok();
    eventually(PATIENCE, || {
        let peers = n2.json(["peers"]);
        let out = |peer: &Value| peer["node"] == n3.id().as_str() && peer["state"] == "linked";
        if peers.as_array().unwrap().iter().any(out) { Err(peers) } else { Ok(()) }
    });
    eventually(PATIENCE, || {
        let outcome = n1.call("math1@fabric", "add", &["x=3", "y=4"]);
        if outcome.stderr.starts_with("no-route: ") { Ok(()) } else { Err(format!("{outcome:#?}")) }
    });
    // A membership from before does not help it.
    n3.stop();
    n3.start(&["--peer", &n2.peer()]);
    eventually(PATIENCE, || {
        let peers = n2.json(["peers"]);
        let why =
            |peer: &Value| peer["why"].as_str().unwrap_or_default().contains("revoked by root version 2");
        if peers.as_array().unwrap().iter().any(why) { Ok(()) } else { Err(peers) }
    });
}

#[test]
fn datasets_of_a_leaf_are_read_and_written_from_the_other_end() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let operator = mesh.operator_key();
    // Only the leaf has it, so whatever is found was found there.
    mesh.apply(&math().sync(&["config"], "on = { labels = [\"n3\"] }"), &[n3]);
    let dataset = |words: &[&str]| on(n1, "n3", &operator, &[&["dataset"], words].concat());
    for node in [n1, n2] {
        node.cli(["dataset", "get", "config", "motd"]).fails(4, "not-found");
    }
    let words = ["--on", "n3", "--key", operator.to_str().unwrap(), "-v", "-o", "json"];
    let words = [&words[..], &["dataset", "watch", "config"]].concat();
    let mut watch = Process::spawn(n1.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (stdout, stderr) = (watch.child().stdout.take().unwrap(), watch.child().stderr.take().unwrap());
    let mut said = BufReader::new(stderr).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "watching config"));
    let mut changes = BufReader::new(stdout).lines();
    let mut next = || serde_json::from_str::<Value>(&changes.next().unwrap().unwrap()).unwrap();

    dataset(&["put", "config", "motd", "hello"]).ok();
    assert_eq!(next(), json!({ "dataset": "config", "key": "motd", "removed": false, "value": "hello" }));
    let (file, large) = (mesh.path("large"), vec![b'x'; 32 << 10]);
    std::fs::write(&file, &large).unwrap();
    dataset(&["put", "config", "large", "-f", file.to_str().unwrap()]).ok();
    assert_eq!(next()["key"], "large");
    assert_eq!(dataset(&["get", "config", "motd"]).ok(), "hello");
    assert_eq!(dataset(&["get", "config", "large"]).ok().as_bytes(), large);
    assert_eq!(n3.cli(["dataset", "get", "config", "motd"]).ok(), "hello");
    let all = on(n1, "n3", &operator, &["-o", "json", "dataset", "ls"]).json();
    assert_eq!((&all[0]["dataset"], &all[0]["entries"]), (&json!("config"), &json!(2)));
    dataset(&["rm", "config", "motd"]).ok();
    assert_eq!(next()["removed"], true);
    dataset(&["get", "config", "motd"]).fails(4, "not-found");
    dataset(&["put", "other", "k", "v"]).fails(4, "not-found");
    watch.kill();

    // Who may only look may not read entries either: they may be secret.
    let (viewer, id) = key(&mesh, n1, "viewer.key");
    n1.cli(["mesh", "operator", "add", &id, "--role", "view"]).ok();
    eventually(PATIENCE, || match on(n1, "n3", &viewer, &["status"]) {
        status if status.code == 0 => Ok(()),
        status => Err(status.stderr),
    });
    for words in
        [&["get", "config", "large"][..], &["put", "config", "k", "v"], &["ls"], &["watch", "config"]]
    {
        on(n1, "n3", &viewer, &[&["dataset"], words].concat()).fails(3, "not-allowed");
    }
    n3.cli(["dataset", "get", "config", "k"]).fails(4, "not-found");
}
