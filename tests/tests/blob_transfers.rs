//! Blobs between nodes whose links are cut and whose peers lie.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use midplane_tests::forge::mesh_id;
use midplane_tests::liar::Liar;
use midplane_tests::process::Process;
use midplane_tests::relay::Relay;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

/// The wire is cut after so many bytes.
const CUT: usize = 24 << 20;

/// Bytes that nothing else has.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(next).collect()
}

#[track_caller]
fn put(node: &Node, mesh: &Mesh, bytes: &[u8]) -> String {
    let path = mesh.path("source");
    std::fs::write(&path, bytes).unwrap();
    node.cli(["blob".as_ref(), "put".as_ref(), path.as_os_str()]).ok().trim_end().to_owned()
}

#[track_caller]
fn get(node: &Node, digest: &str, out: &Path) {
    node.cli(["blob".as_ref(), "get".as_ref(), digest.as_ref(), "--out".as_ref(), out.as_os_str()]).ok();
}

/// Bytes on the disk of what is being fetched; the room for all of it is taken at once.
fn unfinished(node: &Node, digest: &str) -> Option<PathBuf> {
    let path = node.directory().join("blobs/partial").join(digest);
    path.exists().then_some(path)
}

#[test]
fn a_fetch_that_is_cut_goes_on_where_it_was() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    let relay = Relay::for_bytes(n1.address(), CUT);
    n2.start(&["--peer", &format!("{}@{}", n1.id(), relay.address)]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    n2.links_to(n1);
    let bytes = bytes(64 << 20, 1);
    let digest = put(n1, &mesh, &bytes);
    let out = mesh.path("out");
    let mut fetch = Process::spawn(
        n2.command(["blob", "get", &digest, "--out", out.to_str().unwrap()]).stderr(Stdio::piped()),
    );
    // The wire is cut in the middle; then the node is killed.
    let some = eventually(PATIENCE, || {
        let path = unfinished(n2, &digest).ok_or("nothing is fetched yet")?;
        let data = std::fs::read(&path).map_err(|_| "it is done already")?;
        let there = data.chunks(32 << 10).filter(|group| group.iter().any(|byte| *byte != 0)).count();
        if there > CUT / 2 / (32 << 10) { Ok(there) } else { Err("hardly anything is there") }
    });
    drop(relay);
    n2.kill();
    assert_ne!(fetch.wait(PATIENCE).code(), Some(0));
    assert!(unfinished(n2, &digest).is_some() && !out.exists());
    n2.start(&["--peer", &n1.peer()]);
    n2.links_to(n1);
    let before = sent(n1);
    get(n2, &digest, &out);
    assert!(std::fs::read(&out).unwrap() == bytes);
    assert!(unfinished(n2, &digest).is_none());
    let again = sent(n1) - before;
    let kept = (some as u64 - 1) * (32 << 10);
    assert!(
        again < bytes.len() as u64 + (40 << 20) - kept,
        "{again} bytes were read again, {kept} were kept"
    );
}

/// Bytes that the node's process has read from files and sockets, and so about what it gave.
fn sent(node: &Node) -> u64 {
    let path = format!("/proc/{}/io", node.pid());
    let io = std::fs::read_to_string(path).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn a_liar_is_named_and_not_asked_again_and_the_truth_comes_from_another() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    n1.links_to(n2);
    let good = bytes(20 << 20, 2);
    let liar = Liar::start(n3, n1.address(), mesh_id(n1), good.len() as u64);
    n1.links_to(n3);
    let digest = put(n2, &mesh, &good);
    let out = mesh.path("out");
    get(n1, &digest, &out);
    assert!(std::fs::read(&out).unwrap() == good);
    eventually(PATIENCE, || {
        let said = n1.said();
        let named = said.contains("liar (") && said.contains("not asked for this blob again");
        // Who answered first was asked first: it may not have had its turn.
        if named || liar.asked() == 0 { Ok(()) } else { Err(said) }
    });
    // Of a blob that only the liar claims nothing is kept, and it is asked once.
    let asked = liar.asked();
    let nowhere = "ab".repeat(32);
    n1.cli(["blob", "get", &nowhere]).fails(4, "blob-missing");
    assert_eq!(liar.asked(), asked + 1);
    n1.cli(["blob", "get", &nowhere]).fails(4, "blob-missing");
    assert_eq!(liar.asked(), asked + 1, "the liar was asked again");
    assert!(n1.said().contains("not asked for this blob again"));
    assert!(unfinished(n1, &nowhere).is_none(), "room was taken on a liar's word");
}

#[test]
fn several_holders_give_one_blob_and_may_go() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    n3.start(&[]);
    // Less than one share of it comes from this one, so the fetch is not over before it goes.
    let wire = Relay::for_bytes(n3.address(), 8 << 20);
    n1.start(&["--peer", &format!("{}@{}", n3.id(), wire.address)]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2, n3]);
    n1.links_to(n2);
    n1.links_to(n3);
    let bytes = bytes(80 << 20, 3);
    let digest = put(n2, &mesh, &bytes);
    assert_eq!(put(n3, &mesh, &bytes), digest);
    let out = mesh.path("out");
    let mut fetch = Process::spawn(&mut n1.command(["blob", "get", &digest, "--out", out.to_str().unwrap()]));
    eventually(PATIENCE, || unfinished(n1, &digest).map(drop).ok_or("nothing is fetched yet"));
    n3.kill();
    assert!(fetch.wait(PATIENCE).success());
    assert!(std::fs::read(&out).unwrap() == bytes);
}
