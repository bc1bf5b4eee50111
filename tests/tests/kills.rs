//! `kill -9` at random points: nothing that was acknowledged is lost, and what runs is the old generation or the new one, whole.
//!
//! `MIDPLANE_KILLS` says how often, `MIDPLANE_SEED` repeats a run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use midplane_tests::forge::blob;
use midplane_tests::process::Process;
use midplane_tests::wait::number;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

/// Kills of each test unless the environment says otherwise: enough to meet each stage, few enough for every run.
const KILLS: u64 = 12;

/// A sequence that its seed repeats.
struct Random(u64);

impl Random {
    fn of(test: &str) -> Self {
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = number("MIDPLANE_SEED").unwrap_or_else(now);
        eprintln!("{test}: MIDPLANE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Runs a command and kills the node so many microseconds after it began. Whether the command was answered with success.
fn killed(node: &Node, words: &[&str], after: Duration) -> bool {
    let started = Instant::now();
    let mut process = Process::spawn(node.command(words).stdout(Stdio::null()).stderr(Stdio::null()));
    while started.elapsed() < after {
        std::hint::spin_loop();
    }
    node.kill();
    process.wait(PATIENCE).success()
}

/// The time within which a kill comes: it follows how long commands take here and now, so that half of them are cut.
struct Range(u64);

impl Range {
    /// From a command that nobody disturbs.
    fn of(node: &Node, words: &[&str]) -> Self {
        let started = Instant::now();
        node.cli(words).ok();
        Self(started.elapsed().as_micros() as u64)
    }

    fn draw(&self, random: &mut Random) -> Duration {
        Duration::from_micros(random.below(self.0 * 2))
    }

    fn adapt(&mut self, acknowledged: bool) {
        self.0 = if acknowledged { self.0 * 4 / 5 } else { self.0 * 5 / 4 };
    }
}

fn file(mesh: &Mesh, name: &str, length: usize, random: &mut Random) -> (PathBuf, Vec<u8>) {
    let seed = random.below(u64::MAX);
    let bytes: Vec<u8> = (0..length).map(|at| (at as u64 ^ (seed >> (at % 7))) as u8).collect();
    let path = mesh.path(name);
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

#[test]
fn a_put_that_was_acknowledged_outlives_the_node() {
    let mut random = Random::of("put");
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let (path, _) = file(&mesh, "first", 3_000_000, &mut random);
    let mut range = Range::of(n1, &["blob", "put", path.to_str().unwrap()]);
    let mut kept = Vec::new();
    for round in 0..number("MIDPLANE_KILLS").unwrap_or(KILLS) {
        let length = random.below(6_000_000) as usize;
        let (path, bytes) = file(&mesh, "source", length, &mut random);
        let digest = blob(&bytes).digest.to_string();
        let after = range.draw(&mut random);
        let acknowledged = killed(n1, &["blob", "put", path.to_str().unwrap()], after);
        range.adapt(acknowledged);
        if acknowledged {
            kept.push((digest.clone(), bytes.clone()));
        }
        n1.start(&[]);
        let out = mesh.path("out");
        let words = ["blob", "get", &digest, "--local", "--out", out.to_str().unwrap()];
        let got = n1.cli(words);
        assert!(got.code == 0 || got.code == 4 && !acknowledged, "round {round}, after {after:?}: {got:#?}");
        if got.code == 0 {
            assert!(std::fs::read(&out).unwrap() == bytes, "round {round}: other bytes");
        }
        if acknowledged {
            let rows = n1.json(["blob", "ls"]);
            let row = rows.as_array().unwrap().iter().find(|row| row["digest"] == digest.as_str());
            assert_eq!(row.unwrap()["pinned"], true, "round {round}: the pin is lost");
        }
        is_tidy(n1);
    }
    // A collection takes what was never acknowledged, and nothing else.
    n1.cli(["blob", "gc"]).ok();
    eprintln!("{} puts were acknowledged", kept.len());
    for (digest, bytes) in &kept {
        let out = mesh.path("out");
        n1.cli(["blob", "get", digest, "--local", "--out", out.to_str().unwrap()]).ok();
        assert!(std::fs::read(&out).unwrap() == *bytes);
    }
}

/// Nothing half written lies about once the node runs again.
fn is_tidy(node: &Node) {
    let left = std::fs::read_dir(node.directory().join("blobs/tmp")).unwrap().count();
    assert_eq!(left, 0, "{left} temporary files");
}

#[test]
fn an_apply_leaves_the_old_generation_or_the_new_one() {
    let mut random = Random::of("apply");
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let manifests = [
        Manifest::policies().probation("1s").skill("skill/math1", "sum@fabric", "n1"),
        Manifest::policies().probation("1s").skill("skill/math2", "sum@fabric", "n1"),
    ]
    .map(|manifest| manifest.text().to_owned());
    let write = |name: &str, which: u64| {
        let path = mesh.path(name);
        std::fs::write(&path, &manifests[which as usize]).unwrap();
        path
    };
    let first = write("first.toml", 0);
    n1.cli(["apply".as_ref(), first.as_os_str()]).ok();
    let mut range = Range::of(n1, &["apply", write("again.toml", 1).to_str().unwrap()]);
    let mut runs = (2, 1);
    let mut news = 0;
    for round in 0..number("MIDPLANE_KILLS").unwrap_or(KILLS) {
        // Otherwise the node would go back by itself after a few ends.
        let floor = eventually(PATIENCE, || {
            let status = n1.json(["status"]);
            if status["probation"].is_null() { Ok(status["floor"].as_u64().unwrap()) } else { Err(status) }
        });
        let next = (floor + 1, 1 - runs.1);
        let path = write("next.toml", next.1);
        let after = range.draw(&mut random);
        let acknowledged = killed(n1, &["apply", path.to_str().unwrap()], after);
        range.adapt(acknowledged);
        n1.start(&[]);
        let status = n1.json(["status"]);
        let version = status["generation"].as_u64().unwrap();
        assert!(
            version == next.0 || version == runs.0 && !acknowledged,
            "round {round}, after {after:?}: {status}"
        );
        assert!(status["floor"].as_u64().unwrap() >= version, "round {round}: {status}");
        assert_eq!(status["warnings"], serde_json::json!([]), "round {round}");
        if version == next.0 {
            (runs, news) = (next, news + 1);
        }
        serves(n1, runs.1);
    }
    eprintln!("{news} of the new generations are in force");
}

#[test]
fn a_rollback_leaves_what_ran_or_what_it_leads_to() {
    let mut random = Random::of("rollback");
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    for skill in ["skill/math1", "skill/math2"] {
        mesh.apply(&Manifest::policies().skill(skill, "sum@fabric", "n1"), &[n1]);
    }
    let mut range = Range::of(n1, &["rollback", "1"]);
    let (mut runs, mut moved) = (1_u64, 0);
    for round in 0..number("MIDPLANE_KILLS").unwrap_or(KILLS) {
        let next = 3 - runs;
        let after = range.draw(&mut random);
        let acknowledged = killed(n1, &["rollback", &next.to_string()], after);
        range.adapt(acknowledged);
        n1.start(&[]);
        let status = n1.json(["status"]);
        let version = status["generation"].as_u64().unwrap();
        assert!(
            version == next || version == runs && !acknowledged,
            "round {round}, after {after:?}: {status}"
        );
        assert_eq!(status["floor"], 2, "round {round}: {status}");
        let held = if version == 1 { serde_json::json!(2) } else { serde_json::Value::Null };
        assert_eq!(status["held-instead-of"], held, "round {round}: {status}");
        assert_eq!(n1.json(["history"]).as_array().unwrap().len(), 2, "round {round}: one is lost");
        moved += u64::from(version == next);
        runs = version;
        serves(n1, runs - 1);
    }
    eprintln!("{moved} of the rollbacks are in force");
}

/// Whether what runs is the skill of this manifest.
#[track_caller]
fn serves(node: &Node, which: u64) {
    match which {
        0 => assert_eq!(node.call("sum@fabric", "add", &["x=3", "y=4"]).ok(), "7\n"),
        _ => assert_eq!(node.call("sum@fabric", "fib-stream", &["n=3"]).ok(), "0\n1\n1\n"),
    }
}

#[test]
fn a_fetch_goes_on_after_each_kill_and_ends_whole() {
    let mut random = Random::of("fetch");
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    let (path, bytes) = file(&mesh, "source", 40_000_000, &mut random);
    let digest = n1.cli(["blob".as_ref(), "put".as_ref(), path.as_os_str()]).ok().trim_end().to_owned();
    for _ in 0..4 {
        n2.links_to(n1);
        killed(
            n2,
            &["blob", "get", &digest, "--out", "/dev/null"],
            Duration::from_micros(random.below(400_000)),
        );
        n2.start(&["--peer", &n1.peer()]);
    }
    n2.links_to(n1);
    let out = mesh.path("out");
    n2.cli(["blob".as_ref(), "get".as_ref(), digest.as_ref(), "--out".as_ref(), out.as_os_str()]).ok();
    assert!(is_same(&out, &bytes));
}

fn is_same(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).unwrap() == bytes
}
