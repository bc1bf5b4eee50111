//! Nodes find, lose and refuse each other.

use std::time::{Duration, Instant};

use midplane::words::hello::Greeting;
use midplane_tests::forge::{self, block_on};
use midplane_tests::relay::Relay;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, command::component, eventually};
use serde_json::Value;

/// An answer that needs nobody else comes within this, process start included.
const AT_ONCE: Duration = Duration::from_secs(8);

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

/// What the node says of a peer.
fn peers(node: &Node, choose: impl Fn(&Value) -> bool) -> Vec<Value> {
    node.json(["peers"]).as_array().unwrap().iter().filter(|peer| choose(peer)).cloned().collect()
}

#[test]
fn who_dials_starts_first_and_skills_are_there_before_the_link() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    mesh.apply(&both(), &[n2]);
    n2.stop();
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&both(), &[n1]);
    adds(n1);
    let asked = Instant::now();
    let alone = n1.call("math2@fabric", "fib-stream", &["n=5"]);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    alone.fails(4, "no-route");
    n2.start(&[]);
    n1.reaches("math2@fabric");
    n2.reaches("math1@fabric");
    for node in [n1, n2] {
        adds(node);
        streams(node);
    }
}

#[test]
fn who_is_dialled_starts_first_and_skills_come_after_the_link() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    n1.links_to(n2);
    n2.links_to(n1);
    mesh.apply(&both(), &[n2]);
    n1.reaches("math2@fabric");
    streams(n1);
    mesh.apply(&both(), &[n1]);
    n2.reaches("math1@fabric");
    adds(n2);
}

#[test]
fn two_that_dial_each_other_end_with_one_link() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    let (one, two) = (n1.peer(), n2.peer());
    std::thread::scope(|scope| {
        for (node, peer) in [(n1, &two), (n2, &one)] {
            let mesh = &mesh;
            scope.spawn(move || {
                node.start(&["--peer", peer]);
                let file = both().write(mesh.path(&format!("{}.toml", node.label())));
                mesh.apply_file(&file, node).ok();
            });
        }
    });
    // Long enough for a second link to come about, or for the two to close one link each.
    eventually(PATIENCE, || {
        let up: Vec<u64> = [n1, n2]
            .iter()
            .flat_map(|node| peers(node, |peer| peer["state"] == "linked"))
            .map(|peer| peer["up-ms"].as_u64().unwrap())
            .collect();
        // An attempt of the other one may still be under way.
        let rows: usize = [n1, n2].iter().map(|node| peers(node, |_| true).len()).sum();
        if rows == 2 && up.len() == 2 && up.iter().all(|up| *up > 3_000) {
            Ok(())
        } else {
            Err(format!("{up:?}"))
        }
    });
    for node in [n1, n2] {
        let all = peers(node, |_| true);
        assert_eq!(all.len(), 1, "{all:?}");
        node.reaches("math1@fabric");
        node.reaches("math2@fabric");
        adds(node);
        streams(node);
    }
    let dialled = |node| peers(node, |_| true)[0]["dialled"].as_bool().unwrap();
    assert_ne!(dialled(n1), dialled(n2), "each end has another link");
}

#[test]
fn a_killed_peer_that_comes_back_is_called_again() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&both(), &[n1, n2]);
    n1.reaches("math2@fabric");
    streams(n1);
    for _ in 0..2 {
        n2.kill();
        n2.start(&[]);
        eventually(PATIENCE, || {
            let outcome = n1.call("math2@fabric", "fib-stream", &["n=5"]);
            match outcome.code {
                0 => Ok(()),
                // The old link is still believed in, or the new one is not there yet: said by name, never a hang.
                4 | 5 => Err(outcome.stderr),
                _ => panic!("{outcome:#?}"),
            }
        });
        streams(n1);
    }
}

fn ends() -> Manifest {
    Manifest::policies().skill("skill/math1", "math1@fabric", "n1").skill("skill/math2", "math2@fabric", "n3")
}

#[test]
fn a_node_in_the_middle_of_a_line_passes_calls_on() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&ends(), &[n1, n2, n3]);
    for node in [n1, n2, n3] {
        node.reaches("math1@fabric");
        node.reaches("math2@fabric");
        adds(node);
        streams(node);
    }
    assert!(peers(n1, |peer| peer["label"] == "n3").is_empty(), "the ends have no link");
    let traced = n1.cli(["-v", "call", "math2@fabric", "fib-stream", "n=5"]);
    for label in ["n1", "n2", "n3"] {
        assert!(traced.stderr.contains(&format!("hop: {label} (")), "{traced:#?}");
    }
    let served = |node: &Node| {
        let plugins = node.json(["plugins"]);
        plugins.as_array().unwrap().iter().filter(|plugin| plugin["kind"] == "skill").count()
    };
    assert_eq!([n1, n2, n3].map(served), [1, 0, 1]);
    // The end of the line goes: who is beyond it says so, and everything else goes on.
    n3.stop();
    let gone = eventually(PATIENCE, || match n1.call("math2@fabric", "fib-stream", &["n=5"]) {
        outcome if outcome.stderr.starts_with("no-route: ") => Ok(outcome),
        outcome => Err(format!("{outcome:#?}")),
    });
    gone.fails(4, "no-route");
    adds(n2);
}

#[test]
fn a_ring_has_another_way_when_a_wire_is_cut() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    let wire = Relay::to(n3.address());
    n3.start(&["--peer", &n2.peer()]);
    n2.start(&["--peer", &n1.peer()]);
    n1.start(&["--peer", &format!("{}@{}", n3.id(), wire.address)]);
    mesh.apply(&ends(), &[n1, n2, n3]);
    for (from, to) in [(n1, n2), (n2, n3), (n3, n1)] {
        from.links_to(to);
        to.links_to(from);
    }
    // The longer way may be known first.
    n1.reaches_over("math2@fabric", n3);
    let direct = n1.cli(["-v", "call", "math2@fabric", "fib-stream", "n=5"]);
    assert_eq!(direct.code, 0, "{direct:#?}");
    assert!(!direct.stderr.contains("hop: n2 ("), "the direct way is the shortest: {direct:#?}");
    drop(wire);
    let around = eventually(PATIENCE, || {
        let outcome = n1.cli(["-v", "--timeout", "5s", "call", "math2@fabric", "fib-stream", "n=5"]);
        if outcome.code == 0 { Ok(outcome) } else { Err(outcome.stderr) }
    });
    assert!(around.stderr.contains("hop: n2 ("), "{around:#?}");
    // The other end of the wire notices by itself, and later: it has sent last.
    let back = eventually(PATIENCE, || {
        let outcome = n3.cli(["-v", "--timeout", "5s", "call", "math1@fabric", "add", "x=3", "y=4"]);
        if outcome.code == 0 { Ok(outcome) } else { Err(outcome.stderr) }
    });
    assert!(back.stderr.contains("hop: n2 ("), "{back:#?}");
}

#[test]
fn an_unknown_name_is_answered_at_once_with_what_is_near() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&both(), &[n1, n2]);
    n1.reaches("math2@fabric");
    for (name, fix) in [
        // Equally far from both, but of their domain: the last one is named.
        ("nobody@fabric", "did you mean math2@fabric?"),
        ("math1@fabrik", "did you mean math1@fabric?"),
        ("q@z", "`midplane routes` lists the names that can be reached"),
    ] {
        let asked = Instant::now();
        let outcome = n1.call(name, "add", &["x=3", "y=4"]);
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
        let expect = format!(
            "no-route: {name} is not served anywhere this node can reach (2 names known)\n  fix: {fix}\n"
        );
        assert_eq!(outcome.fails(4, "no-route"), expect);
    }
}

#[test]
fn a_node_whose_manifest_has_no_discovery_says_that_nobody_dials() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&["--peer", "127.0.0.1:9"]);
    let manifest =
        Manifest::empty().plugin("skill/math1", "skill", &component("skill/math1"), "names = [\"x@d\"]");
    mesh.apply(&manifest, &[n1]);
    let status = n1.cli(["status"]).ok();
    assert!(status.contains("warning     nobody dials the 1 peer"), "{status}");
}

#[test]
fn a_node_of_another_mesh_gets_no_link() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    let other = mesh.stranger("other");
    n1.start(&[]);
    other.start(&["--peer", &n1.peer()]);
    mesh.apply(&both(), &[n1]);
    let file = Manifest::policies().write(mesh.path("other.toml"));
    other.cli(["apply".as_ref(), file.as_os_str()]).ok();
    eventually(PATIENCE, || {
        let why = other.cli(["peers", "--why"]).ok();
        if why.contains("wrong-mesh: ") { Ok(()) } else { Err(why) }
    });
    // The other side keeps no row of whom it sent away, but says so.
    eventually(PATIENCE, || {
        let log = n1.cli(["logs", "host"]).ok();
        if log.contains("did not get in: wrong-mesh: ") { Ok(()) } else { Err(log) }
    });
    assert!(peers(n1, |peer| peer["state"] == "linked").is_empty());
    assert!(peers(&other, |peer| peer["state"] == "linked").is_empty());
    other.call("math1@fabric", "add", &["x=3", "y=4"]).fails(4, "no-route");
}

#[test]
fn a_node_without_membership_waits_and_may_do_nothing() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&both(), &[n1]);
    let id = forge::mesh_id(n1);
    let from = (n1.address().ip(), 0).into();
    block_on(async {
        let stranger = forge::unadmitted(from, n1.address(), id, 7).await.unwrap();
        let Greeting::Pending { reason } = &stranger.told else { panic!("told {:?}", stranger.told) };
        assert!(reason.contains("shows no membership of this mesh"), "{reason}");
        // It has the hello stream and no other: there is nothing that it could ask on.
        let second = tokio::time::timeout(Duration::from_millis(500), stranger.connection.open_bi()).await;
        assert!(second.is_err(), "a second stream opened: {second:?}");
        let known = peers(n1, |peer| peer["node"] == stranger.endpoint.own_id().to_string());
        assert_eq!((known.len(), known[0]["state"].as_str()), (1, Some("pending")), "{known:?}");
        assert_eq!(known[0]["trust"], "pending");
        let why = n1.cli(["peers", "--why"]).ok();
        assert!(why.contains("not admitted here: shows no membership of this mesh"), "{why}");
    });
}

#[test]
fn a_node_that_admits_nobody_says_so_on_both_sides() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&both(), &[n1]);
    for (node, why) in [
        (n1, "not admitted there: no admission policy runs on this node"),
        (n2, "not admitted here: no admission policy runs on this node"),
    ] {
        eventually(PATIENCE, || {
            let table = node.cli(["peers", "--why"]).ok();
            if table.contains(why) { Ok(()) } else { Err(table) }
        });
        // The attempt that made the connection is listed until it has heard of that.
        eventually(PATIENCE, || match &peers(node, |_| true)[..] {
            [one] if one["state"] == "pending" => Ok(()),
            all => Err(format!("{all:?}")),
        });
    }
    n1.call("math2@fabric", "fib-stream", &["n=5"]).fails(4, "no-route");
    // Admission alone makes the waiting connection a link.
    mesh.apply(&both(), &[n2]);
    n1.reaches("math2@fabric");
    streams(n1);
}

#[test]
fn another_key_at_the_address_is_refused_by_both_names() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    let wrong = mesh.bare("n3").id();
    n2.start(&[]);
    n1.start(&["--peer", &format!("{wrong}@{}", n2.address())]);
    mesh.apply(&both(), &[n1, n2]);
    let expect = format!("is node {}, not {wrong}", n2.id());
    eventually(PATIENCE, || {
        let why = n1.cli(["peers", "--why"]).ok();
        if why.contains(&expect) { Ok(()) } else { Err(why) }
    });
    n1.call("math2@fabric", "fib-stream", &["n=5"]).fails(4, "no-route");
    assert!(peers(n2, |_| true).is_empty());
}
