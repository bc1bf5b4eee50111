//! A manifest goes to a mesh in waves: to a few nodes first, and to nobody else when they do not fare well.

use midplane_tests::command::component;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

/// Five nodes in a star, with the policies in force. The first one owns the mesh.
fn star() -> Mesh {
    let mesh = Mesh::of(["n1", "n2", "n3", "n4", "n5"]);
    let nodes = mesh.nodes::<5>();
    nodes[0].start(&[]);
    for node in &nodes[1..] {
        node.start(&["--peer", &nodes[0].peer()]);
    }
    mesh.apply(&Manifest::policies(), &nodes);
    for node in &nodes[1..] {
        node.links_to(nodes[0]);
        nodes[0].reaches(&format!("{}@node", node.id()));
    }
    mesh
}

/// The nodes in the order in which they come: the one that is given it, then by their ids.
fn order<'a>(nodes: &[&'a Node; 5]) -> [&'a Node; 5] {
    let mut order = *nodes;
    order[1..].sort_by_key(|node| node.id().parse::<midplane::words::NodeId>().unwrap());
    order
}

fn write(mesh: &Mesh, name: &str, manifest: &Manifest) -> String {
    manifest.write(mesh.path(name)).to_str().unwrap().to_owned()
}

/// The policies, watched for no longer than a test has time for.
fn policies() -> Manifest {
    Manifest::policies().probation("1s")
}

/// A manifest that this node refuses, and no other one.
fn refused_by(label: &str) -> Manifest {
    let more = format!("names = [\"bad@fabric\"]\non = {{ labels = [\"{label}\"] }}");
    policies().plugin("skill/bad", "skill", &component("routing/path-vector"), &more)
}

/// Version in force, the one that it is held instead of, the floor, and what is passed on.
fn at(node: &Node) -> Value {
    let status = node.json(["status"]);
    json!([status["generation"], status["held-instead-of"], status["floor"], status["passes-on"]])
}

/// State and wave of each node, in this order.
fn states(report: &Value, nodes: &[&Node]) -> Vec<Value> {
    let reports = report["nodes"].as_array().unwrap();
    assert_eq!(reports.len(), nodes.len(), "{report}");
    let of = |node: &&Node| {
        let id = node.id();
        let report = reports.iter().find(|report| report["node"] == id.as_str()).unwrap();
        json!([report["state"], report["wave"]])
    };
    nodes.iter().map(of).collect()
}

#[test]
fn a_good_one_goes_to_one_node_and_then_to_all_and_spreads_from_then_on() {
    let mesh = star();
    let nodes = mesh.nodes::<5>();
    let n1 = nodes[0];
    let file = write(&mesh, "good.toml", &policies().skill("skill/math1", "math1@fabric", "n4"));
    let outcome = n1.cli(["apply", &file, "-o", "json"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    // Nobody is asked where nobody sits.
    assert_eq!(outcome.stderr, "manifest 2 goes to 5 nodes in waves of 1, 4\n");
    let report = outcome.json();
    let expect = [1, 2, 2, 2, 2].map(|wave| json!(["applied", wave]));
    assert_eq!(states(&report, &nodes), expect, "{report}");
    assert_eq!((&report["from"], &report["to"], &report["already"]), (&json!(1), &json!(2), &json!(false)));
    for node in nodes {
        eventually(PATIENCE, || {
            if at(node) == json!([2, null, 2, 2]) { Ok(()) } else { Err(at(node).to_string()) }
        });
        assert_eq!(node.json(["status"])["warnings"], json!([]));
    }

    // All at once, or in other waves; without a key for the other nodes there are none.
    let next = write(&mesh, "next.toml", &policies());
    let saved = mesh.path("next.manifest");
    let saved = saved.to_str().unwrap();
    let outcome = n1.cli(["apply", &next, "--waves", "100%", "--save", saved, "-o", "json"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:#?}");
    let states = states(&outcome.json(), &nodes);
    assert_eq!(states, [(); 5].map(|()| json!(["applied", null])));
    nodes[1].cli(["apply", saved, "--waves", "2,100%"]).fails(2, "usage");
    nodes[1].cli(["apply", saved, "--waves", "2"]).fails(2, "error");
}

#[test]
fn a_bad_one_stops_and_those_that_took_it_go_back() {
    let mesh = star();
    let nodes = mesh.nodes::<5>();
    let order = order(&nodes);
    let [first, second, third, fourth, last] = order;

    // The third wave refuses it: the waves before it go back, and nothing spread.
    let file = write(&mesh, "last.toml", &refused_by(last.label()));
    let outcome = first.cli(["apply", &file, "--waves", "1,3,100%", "--yes", "-o", "json"]);
    assert_eq!(outcome.code, 6, "{outcome:#?}");
    let says = format!("wave 3 of 3 failed on {}", &last.id()[..8]);
    assert!(outcome.stderr.contains("partly-done") && outcome.stderr.contains(&says), "{outcome:#?}");
    assert!(outcome.stderr.contains("skill/bad"), "{outcome:#?}");
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let found = states(&report, &order);
    let back = |wave: u32| json!(["reverted", wave]);
    assert_eq!(found[..4], [back(1), back(2), back(2), back(3)], "{report}");
    assert_eq!(found[4], json!(["refused", 3]), "{report}");
    for node in [first, second, third, fourth] {
        assert_eq!(at(node), json!([1, 2, 2, 1]), "{}", node.label());
    }
    assert_eq!(at(last), json!([1, null, 1, 1]));

    // The second wave refuses the next one: whoever comes later never hears of it.
    let file = write(&mesh, "second.toml", &refused_by(second.label()));
    let outcome = first.cli(["apply", &file, "--waves", "1,2,100%", "-o", "json"]);
    assert_eq!(outcome.code, 6, "{outcome:#?}");
    assert!(outcome.stderr.contains("manifest 3 goes to 5 nodes in waves of 1, 1, 3\n"), "{outcome:#?}");
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let found = states(&report, &order);
    assert_eq!((&found[0], &found[2]), (&back(1), &json!(["untouched", null])), "{report}");
    assert_eq!(at(first), json!([1, 3, 3, 1]));
    assert_eq!(at(last), json!([1, null, 1, 1]));

    // What the node itself refuses goes nowhere, and it is that node's refusal.
    let file = write(&mesh, "first.toml", &refused_by(first.label()));
    let outcome = first.cli(["apply", &file]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (3, ""), "{outcome:#?}");
    assert!(outcome.stderr.contains("wrong-world: "), "{outcome:#?}");
    for node in [second, third, fourth] {
        assert_eq!(node.json(["status"])["generation"], 1);
    }

    // The next good version ends every hold, and is passed on by everybody.
    let file = write(&mesh, "good.toml", &policies());
    let report = first.json(["apply", &file, "--waves", "2,100%"]);
    let expect = [1, 1, 2, 2, 2].map(|wave| json!(["applied", wave]));
    assert_eq!(states(&report, &order), expect, "{report}");
    for node in nodes {
        eventually(PATIENCE, || {
            if at(node) == json!([4, null, 4, 4]) { Ok(()) } else { Err(at(node).to_string()) }
        });
    }
}
