//! A skill of one instance hands over what it knows, and no call that waits for its turn is lost on the way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use midplane_tests::command::component;
use midplane_tests::{Manifest, Mesh, Node};

/// Threads that call all the time.
const CALLERS: usize = 4;
/// How often the skill is replaced meanwhile.
const SWAPS: usize = 6;

/// The component again with other bytes: a custom section, which means nothing.
fn variant(mesh: &Mesh, name: &str) -> PathBuf {
    let mut bytes = std::fs::read(component("test/skill/counter")).unwrap();
    let payload = [&[u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    bytes.extend([0, u8::try_from(payload.len()).unwrap()]);
    bytes.extend(payload);
    let path = mesh.path(&format!("{name}.wasm"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn counter(component: &Path, more: &str) -> Manifest {
    let more = format!("names = [\"count@fabric\"]\ninstances = \"singleton\"\n{more}");
    Manifest::empty().plugin("skill/count", "skill", component, &more)
}

fn next(node: &Node) -> u64 {
    node.call("count@fabric", "next", &[]).ok().trim().parse().unwrap()
}

#[test]
fn each_call_is_counted_once_whichever_version_it_meets() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&counter(&component("test/skill/counter"), ""), &[n1]);
    let (seen, over) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let number = next(n1);
                    assert!(seen.lock().unwrap().insert(number), "{number} was counted twice");
                }
            });
        }
        for swap in 0..SWAPS {
            mesh.apply(&counter(&variant(&mesh, &format!("v{swap}")), ""), &[n1]);
        }
        over.store(true, Ordering::Relaxed);
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().copied().eq(0..seen.len() as u64), "numbers are missing: {seen:?}");
    assert!(seen.len() > SWAPS);
    assert_eq!(next(n1), seen.len() as u64);
}

#[test]
fn the_manifest_says_what_becomes_of_what_it_knows() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&counter(&component("test/skill/counter"), ""), &[n1]);
    assert_eq!((next(n1), next(n1)), (0, 1));
    mesh.apply(&counter(&variant(&mesh, "none"), "handover = \"none\""), &[n1]);
    assert_eq!((next(n1), next(n1)), (0, 1));
    mesh.apply(&counter(&variant(&mesh, "required"), ""), &[n1]);
    assert_eq!(next(n1), 2);
}

#[test]
fn nobody_calls_what_is_the_hosts() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&counter(&component("test/skill/counter"), ""), &[n1]);
    for function in ["save", "restore", "midplane:skill/state@0.1.0#save", "midplane:skill/state#save"] {
        n1.call("count@fabric", function, &[]).fails(4, "unknown-function");
    }
    assert_eq!(next(n1), 0);
}
