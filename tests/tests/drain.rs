//! Calls that are in flight when their plugin is replaced: they go on in what they began in, and are counted.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use midplane_tests::command::component;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

fn endless(more: &str) -> Manifest {
    let more = format!("names = [\"count@fabric\"]\n{more}");
    Manifest::policies().plugin("skill/count", "skill", &component("test/skill/endless"), &more)
}

fn math2() -> Manifest {
    let more = "names = [\"count@fabric\"]";
    Manifest::policies().plugin("skill/count", "skill", &component("skill/math2"), more)
}

/// A call whose answer does not end by itself, and the lines of it.
struct Stream {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Stream {
    fn start(node: &Node) -> Self {
        let mut child = node
            .command(["call", "count@fabric", "count"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stream = Self { child, lines };
        assert_eq!(stream.next(), "0");
        stream
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("the stream goes on").unwrap()
    }
}

fn receipt(node: &Node, to: u64) -> Value {
    let mut found = None;
    eventually(PATIENCE, || {
        found = node.last_event("receipt").filter(|receipt| receipt["to"] == to);
        if found.is_some() { Ok(()) } else { Err(format!("no receipt of {to}")) }
    });
    found.unwrap()
}

#[test]
fn a_stream_goes_on_in_what_it_began_in_and_the_receipt_waits_for_it() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&endless(""), &[n1]);
    let mut stream = Stream::start(n1);
    let file = math2().write(mesh.path("2.toml"));
    let applied = n1.json(["apply", "--key", mesh.operator_key().to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!((&applied["to"], &applied["in-flight"]), (&json!(2), &json!(1)));
    // New calls meet the new one at once, and the old one has not missed an item.
    assert_eq!(n1.call("count@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n");
    for expect in 1..20_000_u32 {
        assert_eq!(stream.next(), expect.to_string());
    }
    assert_ne!(n1.last_event("receipt").map(|receipt| receipt["to"].clone()), Some(json!(2)));
    stream.child.kill().unwrap();
    stream.child.wait().unwrap();
    let receipt = receipt(n1, 2);
    assert_eq!((&receipt["from"], &receipt["slots"]), (&json!(1), &json!(["skill/count"])));
    assert_eq!(
        (&receipt["in-flight"], &receipt["drained"], &receipt["forced"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(receipt["signers"].as_array().unwrap().len(), 1);
    let line = n1.cli(["events"]).ok();
    let line = line.lines().rfind(|line| line.contains(" receipt ")).unwrap();
    assert!(line.contains(" drained=1 ") && line.contains(" from=1 ") && line.ends_with(" to=2"), "{line}");
}

#[test]
fn what_does_not_end_in_time_is_ended_by_name_and_counted() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&endless("drain = \"200ms\""), &[n1]);
    let mut stream = Stream::start(n1);
    mesh.apply(&math2(), &[n1]);
    // Somebody who does not read would never see the end either.
    while let Some(Ok(_)) = stream.lines.next() {}
    let ended = stream.child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(5), "{said}");
    assert!(said.contains("replaced: skill/count was replaced, and count was not done within"), "{said}");
    assert!(said.contains("drain = 200 ms") && said.contains("fix: call again"), "{said}");
    let receipt = receipt(n1, 2);
    assert_eq!(
        (&receipt["in-flight"], &receipt["drained"], &receipt["forced"]),
        (&json!(1), &json!(0), &json!(1))
    );
    // It has done nothing wrong.
    assert_eq!(n1.last_event("plugin-trapped"), None);
    assert_eq!(n1.json(["status"])["generation"], 2);
}
