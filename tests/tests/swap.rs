//! One component of the manifest in force replaced on one node, until the next manifest or a rollback.

use std::path::{Path, PathBuf};

use midplane::decisions::cose;
use midplane::store::keys;
use midplane::words::control::Request;
use midplane::words::objects::Swap;
use midplane::words::objects::swap::Mode;
use midplane::words::swap::SwapRequest;
use midplane::words::{Digest, Fault};
use midplane_tests::command::component;
use midplane_tests::forge::{ask_with, blob, mesh_id, put_blob};
use midplane_tests::policies::acting;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};
use serde_json::{Value, json};

fn adds() -> Manifest {
    Manifest::policies().skill("skill/math1", "sum@fabric", "n1")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A node that runs a manifest.
fn running(manifest: &Manifest) -> Mesh {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(manifest, &[n1]);
    mesh
}

#[track_caller]
fn it_adds(node: &Node) {
    assert_eq!(node.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
}

#[track_caller]
fn it_counts(node: &Node) {
    assert_eq!(node.call("sum@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n");
}

fn digest(path: &Path) -> String {
    Digest::of(&std::fs::read(path).unwrap()).to_string()
}

fn plugin(node: &Node, slot: &str) -> Value {
    let plugins = node.json(["plugins"]);
    plugins.as_array().unwrap().iter().find(|plugin| plugin["slot"] == slot).unwrap().clone()
}

/// Which slots are swapped, and the generation in force.
fn says(node: &Node) -> (Vec<String>, u64) {
    let status = node.json(["status"]);
    let swaps = status.get("swaps").and_then(Value::as_array).cloned().unwrap_or_default();
    let slots = swaps.iter().map(|swap| swap["slot"].as_str().unwrap().to_owned()).collect();
    (slots, status["generation"].as_u64().unwrap())
}

fn events(node: &Node, name: &str) -> Vec<Value> {
    let events = node.cli(["events", "-o", "json"]).ok();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == name).collect()
}

#[test]
fn another_component_runs_until_the_next_manifest_or_a_rollback_and_everybody_sees_it() {
    let mesh = running(&adds());
    let [n1] = mesh.nodes();
    let (math1, math2) = (component("skill/math1"), component("skill/math2"));
    let done = n1.json(["swap", "skill/math1", text(&math2)]);
    assert_eq!((&done["slot"], &done["generation"]), (&json!("skill/math1"), &json!(1)));
    let (named, swapped) = (digest(&math1), digest(&math2));
    assert_eq!(
        (&done["component"], &done["before"], &done["instead-of"]),
        (&json!(swapped), &json!(named), &json!(named))
    );
    it_counts(n1);

    // It is drift, and shown as such; the manifest in force is the one that was signed.
    let shown = plugin(n1, "skill/math1");
    assert_eq!((&shown["component"], &shown["instead-of"]), (&json!(swapped), &json!(named)));
    assert!(plugin(n1, "routing").get("instead-of").is_none());
    let status = n1.json(["status"]);
    let swap = &status["swaps"][0];
    assert_eq!((&swap["component"], &swap["instead-of"]), (&json!(swapped), &json!(named)));
    assert_eq!(swap["signers"].as_array().unwrap().len(), 1);
    assert!(status["warnings"][0].as_str().unwrap().starts_with("skill/math1 runs another component than"));
    let status = n1.cli(["status"]).ok();
    let line = format!("swapped     skill/math1: {} instead of {}", &swapped[..12], &named[..12]);
    assert!(status.contains(&line), "{status}");
    let plugins = n1.cli(["plugins"]).ok();
    assert!(plugins.contains(&format!("{}, not {}", &swapped[..12], &named[..12])), "{plugins}");
    let event = events(n1, "swapped").pop().unwrap();
    assert_eq!((&event["slot"], &event["component"]), (&json!("skill/math1"), &json!(swapped)));
    assert_eq!(events(n1, "control").last().unwrap()["verb"], "swap");

    // A crash and a collection leave it, whoever else needs the blob.
    n1.cli(["blob", "gc"]).ok();
    n1.kill();
    n1.start(&[]);
    n1.cli(["blob", "gc"]).ok();
    it_counts(n1);
    assert_eq!(says(n1), (vec!["skill/math1".to_owned()], 1));
    n1.cli(["swap", "skill/math1", text(&math2)]).fails(2, "usage");

    // A rollback first goes to what was signed.
    let back = n1.json(["rollback"]);
    assert_eq!((&back["from"], &back["to"]), (&json!(1), &json!(1)));
    assert_eq!((&back["swaps-ended"], &back["changed"]), (&json!(["skill/math1"]), &json!(["skill/math1"])));
    it_adds(n1);
    assert_eq!((says(n1), n1.json(["status"])["warnings"].clone()), ((vec![], 1), json!([])));
    n1.cli(["rollback"]).fails(4, "not-found");

    // So do the component of the manifest itself, and every manifest.
    n1.cli(["swap", "skill/math1", text(&math2)]).ok();
    let said = n1.cli(["swap", "skill/math1", text(&math1)]).ok();
    assert!(said.contains("as generation 1 says; the swap is over"), "{said}");
    it_adds(n1);
    assert_eq!(says(n1), (vec![], 1));
    n1.cli(["swap", "skill/math1", text(&math2)]).ok();
    let file = adds().write(mesh.path("next.toml"));
    let applied = n1.json(["apply", text(&file)]);
    assert_eq!(applied["swaps-ended"], json!(["skill/math1"]));
    it_adds(n1);
    assert_eq!(says(n1), (vec![], 2));

    // And so does the way back to another generation.
    n1.cli(["swap", "skill/math1", text(&math2)]).ok();
    assert_eq!(n1.json(["rollback", "1"])["instead-of"], 2);
    it_adds(n1);
    assert_eq!(says(n1), (vec![], 1));
    // What is held can be swapped too, and stays held.
    n1.cli(["swap", "skill/math1", text(&math2)]).ok();
    it_counts(n1);
    assert_eq!(n1.json(["status"])["held-instead-of"], 2);
    n1.cli(["rollback"]).ok();
    assert_eq!((n1.json(["status"])["held-instead-of"].clone(), says(n1)), (json!(2), (vec![], 1)));
}

#[test]
fn a_policy_is_swapped_with_its_state_and_what_goes_on_is_not_touched() {
    let mesh = running(&adds());
    let [n1] = mesh.nodes();
    it_adds(n1);
    let before = plugin(n1, "admission")["served"].clone();
    // A policy that answers every question with `local`.
    let other = mesh.path("other.wasm");
    std::fs::write(&other, acting(&[])).unwrap();
    n1.cli(["swap", "routing", text(&other)]).ok();
    it_adds(n1);
    assert_eq!(plugin(n1, "routing")["running"], true);
    assert_eq!(plugin(n1, "admission")["served"], before);
    n1.kill();
    n1.start(&[]);
    it_adds(n1);
    assert_eq!(says(n1), (vec!["routing".to_owned()], 1));
    n1.cli(["rollback"]).ok();
    it_adds(n1);
    assert_eq!(plugin(n1, "routing")["component"], digest(&component("routing/path-vector")));
}

/// A swap that is to be refused, and to change nothing.
#[track_caller]
fn refused(node: &Node, words: &[&str], code: i32, word: &str, says: &str) {
    let state = || json!([node.json(["plugins"]), node.json(["status"])["swaps"]]);
    let components = |state: &Value| -> Vec<Value> {
        state[0].as_array().unwrap().iter().map(|plugin| plugin["component"].clone()).collect()
    };
    let before = state();
    let outcome = node.cli(words);
    let message = outcome.fails(code, word);
    assert!(message.contains(says), "{message}");
    let after = state();
    assert_eq!((components(&before), &before[1]), (components(&after), &after[1]), "{message}");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_moves() {
    let mesh = running(&adds());
    let [n1] = mesh.nodes();
    let swap = |slot: &'static str, path: &Path| vec!["swap", slot, Box::leak(text(path).to_owned().into())];
    let math2 = component("skill/math2");
    refused(n1, &swap("skill/math2", &math2), 4, "not-found", "skill/math2 is no slot of this node");
    refused(n1, &swap("skill/math1", &mesh.path("nothing.wasm")), 4, "not-found", "is not there");
    refused(n1, &swap("skill/math1", &component("skill/math1")), 2, "usage", "already");
    // What it imports needs a grant that the entry does not have.
    refused(n1, &swap("skill/math1", &component("test/skill/caller")), 3, "missing-grant", "invoke");
    refused(n1, &swap("routing", &component("admission/basic")), 3, "wrong-world", "routing");
    let garbage = mesh.path("garbage.wasm");
    std::fs::write(&garbage, b"\0asm garbage").unwrap();
    refused(n1, &swap("skill/math1", &garbage), 3, "bad-component", "");
    let traps = mesh.path("traps.wasm");
    std::fs::write(&traps, acting(&[("INIT", "unreachable")])).unwrap();
    refused(n1, &swap("routing", &traps), 1, "trap", "routing");
    it_adds(n1);
    assert!(events(n1, "swap-refused").len() >= 6);

    // Who may not sign manifests may not sign swaps.
    let key = mesh.path("operate.key");
    n1.cli(["key", "new", text(&key)]).ok();
    n1.cli(["mesh", "operator", "add", text(&key), "--role", "operate"]).ok();
    let words = [&swap("skill/math1", &math2)[..], &["--key", text(&key)]].concat();
    refused(n1, &words, 3, "bad-signature", "it needs role deploy");

    let bare = Mesh::of(["n1"]);
    let [n1] = bare.nodes();
    n1.start(&[]);
    n1.cli(swap("skill/math1", &math2)).fails(4, "not-found");
}

/// A signed swap for a node, and a way to hand it over.
struct Forge<'a> {
    mesh: &'a Mesh,
    node: &'a Node,
    component: PathBuf,
}

impl Forge<'_> {
    fn good(&self, created: u64) -> Swap {
        let bytes = std::fs::read(&self.component).unwrap();
        put_blob(self.node, blob(&bytes), &bytes).unwrap();
        let manifest = std::fs::read(self.node.directory().join("generations/1.manifest")).unwrap();
        Swap {
            mesh: mesh_id(self.node),
            node: self.node.id().parse().unwrap(),
            version: 1,
            manifest: Digest::of(&manifest),
            slot: "skill/math1".into(),
            component: blob(&bytes),
            mode: Mode::Plain,
            created,
            expires: created + 60_000,
        }
    }

    fn sign(&self, swap: &Swap) -> Vec<u8> {
        cose::sign(swap, &[&keys::load(&self.mesh.operator_key()).unwrap()]).unwrap()
    }

    fn send(&self, signed: &[u8]) -> Result<(), Fault> {
        ask_with(self.node, &Request::Swap(SwapRequest::Plain), signed).map(drop)
    }
}

#[test]
fn what_was_signed_once_is_taken_once_by_one_node_for_one_manifest() {
    let mesh = running(&adds());
    let [n1] = mesh.nodes();
    let forge = Forge { mesh: &mesh, node: n1, component: component("skill/math2") };
    let now = midplane::clock::now_ms();
    let good = forge.good(now);
    let change = |change: &dyn Fn(&mut Swap)| {
        let mut swap = good.clone();
        change(&mut swap);
        forge.sign(&swap)
    };
    let signed = forge.sign(&good);
    let mut altered = signed.clone();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    for (what, bytes) in [
        ("another node's", change(&|swap| swap.node = [7; 32].into())),
        ("another manifest's", change(&|swap| swap.manifest = Digest::of(b"x"))),
        ("another version's", change(&|swap| swap.version = 2)),
        ("expired", change(&|swap| (swap.created, swap.expires) = (now - 10, now - 1))),
        ("meant to be tried", change(&|swap| swap.mode = Mode::Canary)),
        ("altered", altered),
        ("no swap", b"nothing".to_vec()),
    ] {
        let fault = forge.send(&bytes).expect_err(what);
        assert_eq!(fault.code.exit(), 3, "{what}: {fault}");
        it_adds(n1);
    }
    forge.send(&signed).unwrap();
    it_counts(n1);

    // What was undone does not come back, also not after a restart; something newer does.
    n1.cli(["rollback"]).ok();
    for _ in 0..2 {
        assert_eq!(forge.send(&signed).unwrap_err().code.as_str(), "stale-version");
        assert_eq!(
            forge.send(&change(&|swap| swap.created -= 1)).unwrap_err().code.as_str(),
            "stale-version"
        );
        it_adds(n1);
        n1.kill();
        n1.start(&[]);
    }
    // Signed by a clock that is ahead: the command line signs after it.
    forge.send(&change(&|swap| (swap.created, swap.expires) = (now + 120_000, now + 180_000))).unwrap();
    n1.cli(["rollback"]).ok();
    n1.cli(["swap", "skill/math1", text(&forge.component)]).ok();
    it_counts(n1);
}

#[test]
fn a_swap_that_does_not_hold_any_more_leaves_what_was_signed() {
    let mesh = running(&adds());
    let [n1] = mesh.nodes();
    let other = mesh.path("other.key");
    n1.cli(["key", "new", text(&other)]).ok();
    n1.cli(["mesh", "operator", "add", text(&other), "--role", "deploy"]).ok();
    let math2 = component("skill/math2");
    n1.cli(["swap", "skill/math1", text(&math2), "--key", text(&other)]).ok();
    n1.cli(["mesh", "revoke", text(&other)]).ok();
    it_counts(n1);
    n1.kill();
    n1.start(&[]);
    it_adds(n1);
    assert_eq!(says(n1), (vec![], 1));
    let ended = events(n1, "swap-ended").pop().unwrap();
    assert_eq!(ended["slot"], "skill/math1");
    assert!(ended["why"].as_str().unwrap().starts_with("unknown-key"), "{ended}");

    // Nor one whose component is gone, on a node without peers to ask.
    n1.cli(["swap", "skill/math1", text(&math2)]).ok();
    it_counts(n1);
    n1.kill();
    let gone = digest(&math2);
    let blobs = n1.directory().join("blobs").join(&gone[..2]);
    for entry in std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().unwrap().to_string_lossy().starts_with(&gone[2..]) {
            std::fs::remove_file(entry).unwrap();
        }
    }
    std::fs::remove_dir_all(n1.directory().join("cache")).unwrap();
    n1.start(&[]);
    it_adds(n1);
    assert_eq!(says(n1), (vec![], 1));
    n1.kill();
    n1.start(&[]);
    assert_eq!((says(n1), events(n1, "swap-ended").len()), ((vec![], 1), 0), "it is over for good");
}

#[test]
fn a_node_that_nobody_can_walk_to_is_swapped_over_links() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "sum@fabric", "n2"), &[n1, n2]);
    n1.reaches("sum@fabric");
    n1.reaches(&format!("{}@node", n2.id()));
    let math2 = component("skill/math2");
    let key = mesh.operator_key();
    let on = ["--on", "n2", "--key", text(&key)];
    n1.cli(on.iter().chain(&["swap", "skill/math1", text(&math2)])).ok();
    assert_eq!((says(n1).0, says(n2).0), (vec![], vec!["skill/math1".to_owned()]));
    it_counts(n1);

    // A routing policy on the node in the middle of it: its peers go on reaching it.
    n1.cli(on.iter().chain(&["rollback"])).ok();
    eventually(PATIENCE, || {
        let answer = n1.call("sum@fabric", "add", &["x=3", "y=4"]);
        if answer.code == 0 { Ok(()) } else { Err(answer.stderr) }
    });
    assert_eq!(says(n2), (vec![], 1));
}
