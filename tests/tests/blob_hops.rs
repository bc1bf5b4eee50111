//! Blobs that only a node further away has: over a hub that keeps nothing, verified on the way, and taken up again after a cut.

use std::path::{Path, PathBuf};

use midplane::words::hop::{HOPS_MAX, Hop};
use midplane::words::{Code, Trust};
use midplane_tests::command::component;
use midplane_tests::forge::{blob, block_on};
use midplane_tests::member::Member;
use midplane_tests::process::Process;
use midplane_tests::relay::Relay;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

/// After so many bytes the wire is cut.
const CUT: usize = 24 << 20;

/// Bytes that nothing else has.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ (at >> 16) as u8 ^ seed).collect()
}

#[track_caller]
fn put(mesh: &Mesh, node: &Node, bytes: &[u8]) -> String {
    let path = mesh.path("source");
    std::fs::write(&path, bytes).unwrap();
    node.cli(["blob".as_ref(), "put".as_ref(), path.as_os_str()]).ok().trim_end().to_owned()
}

#[track_caller]
fn get(node: &Node, digest: &str, out: &Path) -> Value {
    node.json(["blob".as_ref(), "get".as_ref(), digest.as_ref(), "--out".as_ref(), out.as_os_str()])
}

/// Waits until the node can ask another one that is no peer of its.
#[track_caller]
fn reaches(node: &Node, other: &Node) {
    node.reaches(&format!("{}@node", other.id()));
}

/// `n1` and `n3` only dial `n2`.
fn line() -> Mesh {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n2.start(&[]);
    for leaf in [n1, n3] {
        leaf.start(&["--peer", &n2.peer()]);
    }
    mesh.apply(&Manifest::policies(), &[n1, n2, n3]);
    reaches(n1, n3);
    reaches(n3, n1);
    mesh
}

fn unfinished(node: &Node, digest: &str) -> Option<PathBuf> {
    let path = node.directory().join("blobs/partial").join(digest);
    path.exists().then_some(path)
}

/// Groups of a fetch that are there.
fn there(node: &Node, digest: &str) -> Result<usize, String> {
    let path = unfinished(node, digest).ok_or("nothing is fetched yet")?;
    let data = std::fs::read(&path).map_err(|_| "it is done already")?;
    Ok(data.chunks(32 << 10).filter(|group| group.iter().any(|byte| *byte != 0)).count())
}

#[test]
fn a_leaf_gets_what_only_another_leaf_has() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let out = mesh.path("out");
    let kept = n2.json(["blob", "ls"]);
    for length in [0, 1, 70_000, 40 << 20] {
        let bytes = bytes(length, 1);
        let digest = put(&mesh, n1, &bytes);
        n3.cli(["blob", "get", &digest, "--local"]).fails(4, "blob-missing");
        assert_eq!(get(n3, &digest, &out)["fetched"], true);
        assert!(std::fs::read(&out).unwrap() == bytes, "{length}");
        n2.cli(["blob", "get", &digest, "--local"]).fails(4, "blob-missing");
    }
    assert_eq!(n2.json(["blob", "ls"]), kept, "the hub keeps nothing of what passes");
    let nowhere = "ab".repeat(32);
    let outcome = n3.cli(["blob", "get", &nowhere]);
    let message = outcome.fails(4, "blob-missing");
    assert!(message.contains("of 2 nodes that can be asked none gave it"), "{message}");
    assert!(unfinished(n3, &nowhere).is_none());
}

#[test]
fn a_manifest_brings_its_component_from_the_other_end() {
    let mesh = line();
    let [n1, n2, n3] = mesh.nodes();
    let skill = |label: &str| format!("names = [\"math@{label}\"]\non = {{ labels = [\"{label}\"] }}");
    let math = component("skill/math1");
    let manifest = Manifest::policies().plugin("skill/one", "skill", &math, &skill("n1"));
    let manifest = manifest.plugin("skill/three", "skill", &math, &skill("n3"));
    mesh.apply(&manifest, &[n1]);
    eventually(PATIENCE, || match &n3.json(["status"])["generation"] {
        generation if *generation == 2 => Ok(()),
        generation => Err(format!("generation {generation}")),
    });
    n3.reaches("math@n3");
    assert_eq!(n3.call("math@n3", "add", &["[3,4]"]).ok().trim(), "7");
    let digest = blob(&std::fs::read(&math).unwrap()).digest.to_string();
    n2.cli(["blob", "get", &digest, "--local"]).fails(4, "blob-missing");
}

#[test]
fn only_who_may_have_it_from_the_holder_gets_it_over_others() {
    let mut mesh = Mesh::of(["n1", "n2"]);
    mesh.admit("basic", &["--trust", "basic"]);
    mesh.admit("trusted", &["--trust", "trusted"]);
    let [n1, n2, basic, trusted] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    reaches(n2, n1);
    let secret = bytes(1, 7);
    put(&mesh, n1, &secret);
    let (far, near) = (format!("{}@node", n1.id()), format!("{}@node", n2.id()));
    let raw: Vec<u8> = blob(&secret).digest.as_bytes().to_vec();
    let ask = json!({"digest": raw, "length": null, "start": 0, "end": 1});
    let hop = Hop::start(20_000);
    block_on(async {
        for (member, hop, expect) in [
            (basic, hop.clone(), Code::NotAllowed),
            (trusted, Hop { trust: Trust::Basic, ..hop.clone() }, Code::NotAllowed),
            (trusted, Hop { trust: Trust::Pending, ..hop.clone() }, Code::NotAdmitted),
        ] {
            let member = Member::link(member, n2).await.unwrap();
            for name in [&far, &near] {
                let fault = member.call(name, "blob", &ask, &hop).await.unwrap_err();
                assert_eq!(fault.code, expect, "{name}: {fault}");
            }
        }
        let member = Member::link(trusted, n2).await.unwrap();
        let none_left = Hop { hops_left: 0, ..hop.clone() };
        let fault = member.call(&far, "blob", &ask, &none_left).await.unwrap_err();
        assert_eq!(fault.code, Code::TooManyHops);
        let crossed = vec![[1; 32].into(); usize::from(HOPS_MAX)];
        let fault =
            member.call(&far, "blob", &ask, &Hop { chain: crossed, ..hop.clone() }).await.unwrap_err();
        assert_eq!(fault.code, Code::TooManyHops);
        let late = Hop { time_left_ms: 0, ..hop.clone() };
        assert_eq!(member.call(&far, "blob", &ask, &late).await.unwrap_err().code, Code::Deadline);
        for wrong in [json!(null), json!({"digest": "x"}), json!(["x".repeat(1_000)])] {
            for name in [&far, &near] {
                let fault = member.call(name, "blob", &wrong, &hop).await.unwrap_err();
                assert!(matches!(fault.code, Code::Protocol | Code::BadObject | Code::TooLarge), "{fault}");
            }
        }
    });
}

#[test]
fn a_fetch_over_a_hub_goes_on_when_the_hub_comes_back() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n1.start(&[]);
    let relay = Relay::for_bytes(n1.address(), CUT);
    n2.start(&["--peer", &format!("{}@{}", n1.id(), relay.address)]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2, n3]);
    reaches(n3, n1);
    let bytes = bytes(64 << 20, 2);
    let digest = put(&mesh, n1, &bytes);
    let out = mesh.path("out");
    let before = read_by(n1);
    let mut fetch = Process::spawn(&mut n3.command(["blob", "get", &digest, "--out", out.to_str().unwrap()]));
    let some = eventually(PATIENCE, || {
        let there = there(n3, &digest)?;
        if there > CUT / 2 / (32 << 10) { Ok(there) } else { Err("hardly anything is there".to_owned()) }
    });
    n2.kill();
    drop(relay);
    n2.start(&["--peer", &n1.peer()]);
    assert!(fetch.wait(PATIENCE * 2).success());
    assert!(std::fs::read(&out).unwrap() == bytes);
    assert!(unfinished(n3, &digest).is_none());
    // What was there is not given again; what was on the way is.
    let given = read_by(n1) - before;
    assert!(given < bytes.len() as u64 + (40 << 20), "{given} bytes were read, {some} groups were there");
}

/// Bytes that the node's process has read from files and sockets, and so about what it gave.
fn read_by(node: &Node) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", node.pid())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn in_a_ring_another_way_is_taken() {
    let mesh = Mesh::of(["n1", "n2", "n3", "n4"]);
    let [n1, n2, n3, n4] = mesh.nodes();
    n1.start(&[]);
    n3.start(&[]);
    // Of two ways of one length that over the smaller id is taken. Its wire stands still in the middle.
    let (taken, other) = if n2.id() < n4.id() { (n2, n4) } else { (n4, n2) };
    let wire = Relay::for_bytes(n1.address(), CUT);
    taken.start(&["--peer", &format!("{}@{}", n1.id(), wire.address), "--peer", &n3.peer()]);
    other.start(&["--peer", &n1.peer(), "--peer", &n3.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2, n3, n4]);
    for (one, other) in [(n1, n2), (n1, n4), (n3, n2), (n3, n4)] {
        one.links_to(other);
    }
    n3.reaches_over(&format!("{}@node", n1.id()), taken);
    let bytes = bytes(64 << 20, 3);
    let digest = put(&mesh, n1, &bytes);
    let out = mesh.path("out");
    let mut fetch = Process::spawn(&mut n3.command(["blob", "get", &digest, "--out", out.to_str().unwrap()]));
    eventually(PATIENCE, || {
        there(n3, &digest).and_then(|some| if some > 0 { Ok(()) } else { Err("none".into()) })
    });
    taken.kill();
    assert!(fetch.wait(PATIENCE * 2).success());
    assert!(std::fs::read(&out).unwrap() == bytes);
}
