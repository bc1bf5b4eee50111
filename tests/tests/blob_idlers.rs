//! Members that offer a blob and do not give it: whoever has it still gives it.

use std::time::{Duration, Instant};

use midplane::words::Code;
use midplane_tests::forge::mesh_id;
use midplane_tests::liar::{Liar, Manner};
use midplane_tests::{Manifest, Mesh, Node};

/// A look at peers of whom one is silent would take 10 s if it waited for all of them.
const SOON: Duration = Duration::from_secs(8);

#[track_caller]
fn put(mesh: &Mesh, node: &Node, bytes: &[u8]) -> String {
    let path = mesh.path("source");
    std::fs::write(&path, bytes).unwrap();
    node.cli(["blob".as_ref(), "put".as_ref(), path.as_os_str()]).ok().trim_end().to_owned()
}

/// Gets it and returns how long it took.
#[track_caller]
fn get(mesh: &Mesh, node: &Node, digest: &str, expected: &[u8]) -> Duration {
    let (out, start) = (mesh.path("out"), Instant::now());
    node.cli(["blob".as_ref(), "get".as_ref(), digest.as_ref(), "--out".as_ref(), out.as_os_str()]).ok();
    assert!(std::fs::read(&out).unwrap() == expected);
    start.elapsed()
}

#[test]
fn peers_that_offer_and_do_not_give_hide_nobody_further_away() {
    let mesh = Mesh::of(["n1", "n2", "n3", "i1", "i2", "i3", "i4", "i5"]);
    let [n1, n2, n3, idlers @ ..] = mesh.nodes::<8>();
    n2.start(&[]);
    for leaf in [n1, n3] {
        leaf.start(&["--peer", &n2.peer()]);
    }
    mesh.apply(&Manifest::policies(), &[n1, n2, n3]);
    n1.reaches(&format!("{}@node", n3.id()));
    let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at >> 3) as u8 ^ at as u8).collect();
    let codes = [Code::Io, Code::Busy, Code::BlobMissing, Code::Internal];
    let manners = codes.map(Manner::Fails).into_iter().chain([Manner::Silent]);
    let _idlers: Vec<Liar> = idlers
        .iter()
        .zip(manners)
        .map(|(idler, manner)| Liar::with(idler, n1.address(), mesh_id(n1), bytes.len() as u64, manner))
        .collect();
    for idler in idlers {
        n1.links_to(idler);
    }
    let digest = put(&mesh, n3, &bytes);
    get(&mesh, n1, &digest, &bytes);
    assert!(n1.said().contains("did not give blob"), "{}", n1.said());
}

#[test]
fn a_peer_that_does_not_answer_holds_up_nobody() {
    let mesh = Mesh::of(["n1", "n2", "deaf"]);
    let [n1, n2, deaf] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    n1.links_to(n2);
    let _deaf = Liar::with(deaf, n1.address(), mesh_id(n1), 0, Manner::Deaf);
    n1.links_to(deaf);
    // Who waited for all would take longer each time; a machine that stands still does not do so three times.
    let soon = (0..3_u8).any(|number| {
        let bytes = [b's', number].repeat(20_000);
        let digest = put(&mesh, n2, &bytes);
        get(&mesh, n1, &digest, &bytes) < SOON
    });
    assert!(soon, "the one who does not answer was waited for");
}
