//! What a node tells of what happened to it, here and from elsewhere.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use midplane_tests::process::Process;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

fn math() -> Manifest {
    Manifest::policies().skill("skill/math1", "math1@fabric", "n1")
}

/// All events that a node still has, each one object on its line.
fn events(node: &Node) -> Vec<Value> {
    let text = node.cli(["-o", "json", "events", "-n", "1000"]).ok();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for an event of this name for which `is` holds.
#[track_caller]
fn event(node: &Node, name: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(PATIENCE, || {
        let events = events(node);
        let found = events.iter().find(|event| event["event"] == name && is(event));
        found.cloned().ok_or_else(|| format!("no {name} in {events:#?}"))
    })
}

#[test]
fn what_happens_is_told_in_order_and_with_its_reason() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    assert_eq!(event(n1, "started", |_| true)["generation"], 0);
    mesh.apply(&math(), &[n1]);
    let applied = event(n1, "generation-applied", |_| true);
    assert_eq!((&applied["from"], &applied["to"]), (&json!(0), &json!(1)));
    let operator = n1.json(["key", "show", mesh.operator_key().to_str().unwrap()])[0]["id"].clone();
    assert_eq!(applied["signers"], json!([operator]));
    // By whoever may open the socket.
    assert_eq!(event(n1, "control", |event| event["verb"] == "apply").get("by"), None);

    let file = math().write(mesh.path("old.toml"));
    n1.cli(["apply", "--version", "1", file.to_str().unwrap()]).fails(3, "stale-version");
    let refused = event(n1, "generation-refused", |_| true);
    assert!(refused["why"].as_str().unwrap().starts_with("stale-version: "), "{refused}");

    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&math(), &[n2]);
    n1.links_to(n2);
    let id = n2.id();
    let of = |event: &Value| event["peer"] == id.as_str();
    assert_eq!(event(n1, "peer-admitted", of)["trust"], "trusted");
    let up = event(n1, "link-up", of);
    assert_eq!((&up["label"], &up["dialled"]), (&json!("n2"), &json!(false)));
    n2.stop();
    let down = event(n1, "link-down", of);
    assert!(down["why"].as_str().unwrap().contains("the node stops"), "{down}");

    let stranger = mesh.stranger("n3");
    stranger.start(&["--peer", &n1.peer()]);
    stranger.cli(["apply".as_ref(), math().write(mesh.path("own.toml")).as_os_str()]).ok();
    let refused = event(n1, "peer-refused", |event| event["why"].as_str().unwrap().contains("wrong-mesh"));
    assert!(refused["address"].as_str().unwrap().contains(':'), "{refused}");

    for _ in 0..50 {
        n1.call("math1@fabric", "multiply", &["x=9223372036854775807", "y=9"]).fails(1, "trap");
    }
    let trapped = event(n1, "plugin-trapped", |_| true);
    assert_eq!((&trapped["slot"], &trapped["function"]), (&json!("skill/math1"), &json!("multiply")));
    n1.cli(["mesh", "revoke", &id]).ok();
    assert_eq!(event(n1, "root-updated", |_| true)["to"], 2);

    // Numbers without gaps, times that do not fall, and what came too fast told together.
    let events = events(n1);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index + 1, "{event}");
        assert!(index == 0 || events[index - 1]["at"].as_u64() <= event["at"].as_u64());
    }
    let traps = events.iter().filter(|event| event["event"] == "plugin-trapped").count();
    assert!(traps < 50, "{traps} events of 50 traps");
    let last = events.len().to_string();
    // What goes on by itself may be told meanwhile.
    let after = n1.cli(["events", "-o", "json", "--after", &last]).ok();
    for event in after.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert!(event["seq"].as_u64().unwrap() > events.len() as u64, "{event}");
    }
    let text = n1.cli(["events", "-n", "1"]).ok();
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_policy_that_fails_and_starts_again_is_an_event() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    // Every question ends it.
    let component = mesh.path("traps.wasm");
    std::fs::write(&component, midplane_tests::policies::acting(&[("DECIDE", "unreachable")])).unwrap();
    mesh.apply(&Manifest::empty().plugin("routing", "routing", &component, ""), &[n1]);
    assert_ne!(n1.call("nobody@fabric", "f", &[]).code, 0);
    let restarted = event(n1, "policy-restarted", |_| true);
    assert!(restarted["why"].as_str().unwrap().starts_with("trap: "), "{restarted}");
    assert_eq!(restarted["slot"], "routing");
}

#[test]
fn events_are_followed_from_the_other_end() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&math(), &[n1, n2, n3]);
    n1.reaches(&format!("{}@node", n3.id()));
    let key = mesh.operator_key();
    let words = ["--on", "n3", "--key", key.to_str().unwrap(), "-o", "json", "events", "-f"];
    let mut follow = Process::spawn(n1.command(words).stdout(Stdio::piped()).stderr(Stdio::null()));
    let lines = BufReader::new(follow.child().stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(events.next().unwrap()["event"], "started");
    // It tells of the one who follows, too.
    let operator = n1.json(["key", "show", key.to_str().unwrap()])[0]["id"].clone();
    let control = events.find(|event| event["event"] == "control" && event["verb"] == "events").unwrap();
    assert_eq!((&control["by"], &control["role"]), (&operator, &json!("deploy")));
    mesh.apply(&math().skill("skill/math2", "math2@fabric", "n3"), &[n3]);
    let applied = events.find(|event| event["event"] == "generation-applied" && event["to"] == 2);
    assert_eq!(applied.unwrap()["from"], 1);
    // Who is refused is told, by key when it is an operator's.
    let unknown = mesh.path("unknown.key");
    n1.cli(["key", "new", unknown.to_str().unwrap()]).ok();
    n1.cli(["--on", "n3", "--key", unknown.to_str().unwrap(), "status"]).fails(3, "unknown-key");
    let refused = events.find(|event| event["event"] == "control-refused").unwrap();
    assert_eq!(refused.get("by"), None);
    follow.kill();
}
