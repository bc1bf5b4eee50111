//! What a node knows survives its process, and what it lacks it fetches.

use std::path::Path;

use midplane_tests::forge::{blob, mesh_id, object, sign};
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

fn both() -> Manifest {
    Manifest::policies().skill("skill/math1", "math1@fabric", "n1").skill("skill/math2", "math2@fabric", "n2")
}

#[track_caller]
fn adds(node: &Node) {
    assert_eq!(node.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
}

#[track_caller]
fn streams(node: &Node) {
    assert_eq!(node.call("math2@fabric", "fib-stream", &["n=5"]).ok(), "0\n1\n1\n2\n3\n");
}

#[test]
fn the_last_generation_and_the_port_come_back_without_anybody() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let bind = n1.address().ip().to_string();
    let start = || n1.start_with(n1.command(["run", "--port", "0", "--bind", &bind]));
    start();
    mesh.apply(&Manifest::policies(), &[n1]);
    mesh.apply(&both(), &[n1]);
    let before = n1.json(["status"]);
    assert_eq!(before["generation"], 2);
    // An orderly stop, then a power failure.
    for end in [Node::stop, Node::kill] {
        end(n1);
        n1.cli(["status"]).fails(5, "not-running");
        start();
        let after = n1.json(["status"]);
        for same in ["node", "mesh", "address", "generation", "floor", "plugins", "manifest-expires"] {
            assert_eq!(after[same], before[same], "{same}");
        }
        adds(n1);
    }
    // What was accepted before the restart is still too old after it.
    let stale = mesh.path("stale.manifest");
    std::fs::write(&stale, sign(&object(&both(), mesh_id(n1), 2), &mesh.operator_key())).unwrap();
    n1.cli(["apply".as_ref(), stale.as_os_str()]).fails(3, "stale-version");
}

#[test]
fn a_signed_manifest_brings_its_components_from_peers() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    n1.links_to(n2);
    n2.links_to(n1);
    let wasm = std::fs::read(midplane_tests::command::component("skill/math2")).unwrap();
    assert!(!has(n2, &wasm), "n2 has the component before it could");
    mesh.apply(&both(), &[n1]);
    n1.reaches("math2@fabric");
    streams(n1);
    assert!(has(n2, &wasm));
    // From now on it needs nobody for it.
    n1.stop();
    n2.kill();
    n2.start(&[]);
    streams(n2);
}

/// Whether the blob lies whole in the node's directory.
fn has(node: &Node, bytes: &[u8]) -> bool {
    let digest = blob(bytes).digest.to_string();
    let (shard, rest) = digest.split_at(2);
    std::fs::read(node.directory().join("blobs").join(shard).join(rest)).is_ok_and(|kept| kept == bytes)
}

#[test]
fn peers_may_stand_in_a_file_or_in_the_environment() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    let file = mesh.path("peers");
    std::fs::write(&file, format!("# the first one\n\n{} # here\n", n1.peer())).unwrap();
    n1.start(&[]);
    n2.start(&["--peers-file", file.to_str().unwrap()]);
    let bind = n3.address().ip().to_string();
    let mut environment = n3.command(["run", "--port", "0", "--bind", &bind]);
    environment.env("MIDPLANE_PEERS", format!("{}, {}", n1.address(), n2.peer()));
    n3.start_with(environment);
    mesh.apply(&Manifest::policies(), &[n1, n2, n3]);
    for (from, to) in [(n2, n1), (n3, n1), (n3, n2)] {
        from.links_to(to);
        to.links_to(from);
    }
}

#[test]
fn wrong_peers_are_refused_before_anything_starts() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let file = mesh.path("peers");
    std::fs::write(&file, "one two\n").unwrap();
    let file = file.to_str().unwrap();
    let outcome = n1.cli(["run", "--peers-file", file]);
    assert!(outcome.fails(2, "usage").contains("peers file"), "{outcome:#?}");
    let outcome = n1.cli(["run", "--peer", "somewhere"]);
    assert!(outcome.fails(2, "usage").contains("command line"), "{outcome:#?}");
    n1.cli(["run", "--peers-file", "/nowhere/peers"]).fails(4, "not-found");
    let environment = &mut n1.command(["run"]);
    let outcome = midplane_tests::command::run(environment.env("MIDPLANE_PEERS", "h:1,h"), PATIENCE);
    assert!(outcome.fails(2, "usage").contains("environment"), "{outcome:#?}");
}

#[test]
fn files_of_trust_that_were_changed_are_refused() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&both(), &[n1]);
    n1.stop();
    {
        let (name, word) = ("trust.cbor", "bad-object");
        let path = n1.directory().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bad in [&flipped[..], &good[..good.len() / 2], b"garbage", b""] {
            std::fs::write(&path, bad).unwrap();
            let outcome = n1.cli(["run", "--port", "0", "--bind", "127.0.0.1"]);
            let message = outcome.fails(3, word);
            assert!(message.contains(&*Path::new(name).file_name().unwrap().to_string_lossy()), "{message}");
            assert_eq!(std::fs::read(&path).unwrap(), bad, "a refused file is left for its owner to look at");
        }
        std::fs::write(&path, &good).unwrap();
    }
    n1.start(&[]);
    adds(n1);
}

#[test]
fn a_damaged_generation_leaves_a_node_that_can_be_repaired() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&both(), &[n1]);
    n1.stop();
    let path = n1.directory().join("current");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    n1.start(&[]);
    let status = n1.json(["status"]);
    assert_eq!(status["generation"], 0);
    assert!(status["warnings"].to_string().contains("did not come back"), "{status}");
    mesh.apply(&both(), &[n1]);
    adds(n1);
}

#[test]
fn claims_of_a_restarted_node_replace_the_old_ones() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&both(), &[n1, n2]);
    n1.reaches("math2@fabric");
    n2.stop();
    // An orderly stop takes the way with it at once, not when the claim expires.
    eventually(PATIENCE, || {
        let outcome = n1.call("math2@fabric", "fib-stream", &["n=5"]);
        if outcome.stderr.starts_with("no-route: ") { Ok(()) } else { Err(outcome.stderr + &outcome.stdout) }
    });
    n2.start(&["--peer", &n1.peer()]);
    n1.reaches("math2@fabric");
    streams(n1);
}
