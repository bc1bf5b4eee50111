//! What policies decided when they were recorded is what they decide now: the files in `tests/recordings`, replayed against the plugins
//! that this tree builds.
//!
//! Effects are compared, and not digests, so another compiler or a faster policy changes nothing. Where a policy is meant to decide
//! otherwise, `make recordings` records anew; what changed is then seen in the replay of the old file, before it is overwritten.

use std::path::PathBuf;

use midplane_tests::command::{component, midplane, root, run};
use midplane_tests::policies::acting;
use midplane_tests::recorder::{Recorder, read};
use midplane_tests::{Manifest, Mesh, Outcome, PATIENCE, eventually};
use serde_json::Value;

/// Set by `make recordings`.
const RECORD: &str = "MIDPLANE_RECORD";

fn file(name: &str) -> PathBuf {
    root().join("tests/recordings").join(name)
}

fn replay(name: &str, with: &std::path::Path) -> Outcome {
    let (file, with) = (file(name), with.to_str().unwrap());
    let words = ["-o", "json", "--data-dir", "/nowhere", "replay", file.to_str().unwrap(), "--with", with];
    run(&mut midplane(words), PATIENCE)
}

/// Records anew if that is wanted, and replays what is there.
fn check(name: &str, plugin: &str, has: &[(&str, usize)], record: impl FnOnce(PathBuf)) {
    if std::env::var_os(RECORD).is_some() {
        // An earlier one is not overwritten by the command.
        let _ = std::fs::remove_file(file(name));
        record(file(name));
    }
    let recording = read(&file(name));
    for (function, least) in has {
        let count = recording.calls.iter().filter(|call| call.function == *function).count();
        assert!(count >= *least, "{name} has {count} calls of {function}");
    }
    let outcome = replay(name, &component(plugin));
    assert!(
        outcome.code == 0,
        "{plugin} decides otherwise than {name} says: if that is meant, `make recordings` and commit it\n{}{}",
        outcome.stdout,
        outcome.stderr
    );
    let report = outcome.json();
    assert_eq!((&report["equal"], &report["cut"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(report["replayed"], recording.calls.len());
}

#[test]
fn routing_decides_as_it_did_when_links_came_and_went() {
    check(
        "routing.recording",
        "routing/path-vector",
        &[("init", 1), ("handle", 12), ("decide", 4)],
        |file| {
            let mesh = Mesh::of(["n1", "n2", "n3"]);
            let [n1, n2, n3] = mesh.nodes();
            n1.start(&[]);
            n2.start(&["--peer", &n1.peer()]);
            n3.start(&["--peer", &n2.peer()]);
            let manifest = Manifest::policies().skill("skill/math1", "math1@fabric", "n3").skill(
                "skill/math2",
                "math2@fabric",
                "n1",
            );
            mesh.apply(&manifest, &[n1, n2, n3]);
            n1.reaches("math1@fabric");
            n3.reaches("math2@fabric");
            // In the middle, so that it also says what each neighbour is told of the other one.
            let recorder = Recorder::start(n2, "routing", file, &["--for", "1h"]);
            n2.reaches("math1@fabric");
            n2.reaches("math2@fabric");
            assert_eq!(n2.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
            assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
            n3.kill();
            eventually(PATIENCE, || {
                let route = n2.json(["routes", "math1@fabric"])[0].clone();
                if route.get("unroutable").is_some() { Ok(()) } else { Err(route.to_string()) }
            });
            n3.start(&["--peer", &n2.peer()]);
            n1.reaches("math1@fabric");
            assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=5"]).ok(), "8\n");
            assert_eq!(n3.call("math2@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n");
            recorder.stop();
        },
    );
    // Another policy differs, or nothing was compared.
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&other, acting(&[])).unwrap();
    let different = replay("routing.recording", other.path());
    assert_eq!(different.code, 1, "{different:?}");
    let report: Value = serde_json::from_str(&different.stdout).unwrap();
    assert_eq!(report["equal"], false, "{report}");
    assert!(report["difference"]["call"].is_u64(), "{report}");
}

#[test]
fn sync_decides_as_it_did_when_two_nodes_wrote() {
    check("sync.recording", "sync/lww", &[("init", 1), ("handle", 10)], |file| {
        let mesh = Mesh::of(["n1", "n2"]);
        let [n1, n2] = mesh.nodes();
        n1.start(&[]);
        mesh.apply(&Manifest::policies().sync(&["config"], ""), &[n1]);
        let put = |node: &midplane_tests::Node, key: &str, value: &str| {
            let path = mesh.path("value");
            std::fs::write(&path, value).unwrap();
            node.cli(["dataset", "put", "config", key, "-f", path.to_str().unwrap()]).ok();
        };
        let reads = |node: &midplane_tests::Node, key: &str, value: &str| {
            eventually(PATIENCE, || {
                let got = node.cli(["dataset", "get", "config", key]);
                if got.code == 0 && got.stdout.trim_end() == value { Ok(()) } else { Err(got.stderr) }
            });
        };
        put(n1, "before", "one");
        let recorder = Recorder::start(n1, "sync", file, &["--for", "1h"]);
        put(n1, "alone", "two");
        n2.start(&["--peer", &n1.peer()]);
        mesh.apply(&Manifest::policies().sync(&["config"], ""), &[n2]);
        reads(n2, "alone", "two");
        put(n2, "theirs", "three");
        reads(n1, "theirs", "three");
        n2.cli(["dataset", "rm", "config", "before"]).ok();
        eventually(PATIENCE, || {
            let got = n1.cli(["dataset", "get", "config", "before"]);
            if got.code == 4 { Ok(()) } else { Err(got.stdout) }
        });
        n2.kill();
        put(n1, "theirs", "four");
        n2.start(&["--peer", &n1.peer()]);
        reads(n2, "theirs", "four");
        recorder.stop();
    });
}
