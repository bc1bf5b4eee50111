//! Policies that are recorded in running nodes, and run again from the file.

use std::path::Path;

use midplane::words::recording::{Answer, Recording, Why};
use midplane_tests::command::{component, midplane, run};
use midplane_tests::policies::acting;
use midplane_tests::recorder::{Recorder, read};
use midplane_tests::{Manifest, Mesh, Outcome, PATIENCE, eventually};
use rustix::process::Signal;
use serde_json::Value;

/// A command that was to fail.
trait Refused {
    /// With this exit code, saying this, and with nothing on standard output.
    fn refused(&self, code: i32, says: &str);
}

impl Refused for Outcome {
    #[track_caller]
    fn refused(&self, code: i32, says: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:#?}");
        assert!(self.stderr.contains(says), "no {says}: {self:#?}");
    }
}

/// Replays without a node and without a directory of one.
fn replay(file: &Path, more: &[&str]) -> Outcome {
    let words = [&["-o", "json", "--data-dir", "/nowhere", "replay", file.to_str().unwrap()], more].concat();
    run(&mut midplane(words), PATIENCE)
}

fn functions(recording: &Recording) -> Vec<&str> {
    recording.calls.iter().map(|call| call.function.as_str()).collect()
}

/// Waits until so many calls are in the file: what was told last may be on its way when the command is interrupted.
#[track_caller]
fn has(file: &Path, function: &str, least: usize) {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    eventually(PATIENCE, || {
        let recording = read(Path::new(&part));
        let count = functions(&recording).iter().filter(|called| **called == function).count();
        if count >= least { Ok(()) } else { Err(format!("{count} calls of {function}")) }
    });
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn routing_is_recorded_while_links_come_and_go_and_replayed_byte_for_byte() {
    let mesh = Mesh::of(["n1", "n2", "n3"]);
    let [n1, n2, n3] = mesh.nodes();
    let manifest = Manifest::policies().skill("skill/math1", "math1@fabric", "n3");
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    n3.start(&["--peer", &n2.peer()]);
    mesh.apply(&manifest, &[n1, n2, n3]);
    n1.reaches("math1@fabric");
    let recorder = Recorder::start(n1, "routing", mesh.path("routing.recording"), &["--for", "1h"]);
    // What the instance before it knew comes again over its channels; until then the plans of before hold.
    n1.reaches("math1@fabric");
    assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
    n3.kill();
    eventually(PATIENCE, || {
        let route = n1.json(["routes", "math1@fabric"])[0].clone();
        if route.get("unroutable").is_some() { Ok(()) } else { Err(route.to_string()) }
    });
    n3.start(&["--peer", &n2.peer()]);
    n1.reaches("math1@fabric");
    assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=5"]).ok(), "8\n");
    let recording = recorder.stop();

    assert_eq!((recording.end, recording.cut), (Some(Why::Interrupted), 0));
    let functions = functions(&recording);
    assert_eq!(functions[0], "init");
    assert!(functions.iter().filter(|function| **function == "handle").count() > 4, "{functions:?}");
    assert!(functions.contains(&"decide"), "{functions:?}");
    assert!(recording.calls.iter().all(|call| call.fuel > 0));

    // With the component of the node that was recorded, while it runs.
    let file = mesh.path("routing.recording");
    let report = n1.json(["replay", text(&file)]);
    assert_eq!((&report["equal"], &report["same-component"]), (&true.into(), &true.into()), "{report}");
    assert_eq!(report["calls"], recording.calls.len());
    assert_eq!(report["replayed"], report["calls"]);
    assert_eq!(report["fuel-now"], report["fuel-then"]);
    assert!(report["fuel-now"].as_u64().unwrap() > 10_000, "{report}");
    let shown = n1.cli(["replay", text(&file)]).ok();
    assert!(shown.contains("equal      every outcome, byte for byte"), "{shown}");

    // With another one the first call that differs is shown.
    let other = mesh.path("other.wasm");
    std::fs::write(&other, acting(&[])).unwrap();
    let different = replay(&file, &["--with", text(&other)]);
    assert_eq!(different.code, 1, "{different:?}");
    let report: Value = serde_json::from_str(&different.stdout).unwrap();
    assert_eq!((&report["equal"], &report["same-component"]), (&false.into(), &false.into()), "{report}");
    let difference = &report["difference"];
    let number = usize::try_from(difference["call"].as_u64().unwrap()).unwrap();
    assert_eq!(report["replayed"], number);
    let call = &recording.calls[number - 1];
    assert_eq!(
        (&difference["function"], &difference["now"]),
        (&call.function.as_str().into(), &call.now.into())
    );
    assert_ne!(difference["expected"], difference["found"]);
    let shown = n1.cli(["replay", text(&file), "--with", text(&other)]);
    assert!(shown.code == 1 && shown.stdout.contains(&format!("different  call {number}, ")), "{shown:?}");
    assert!(
        shown.stdout.contains("\n  expected   ") && shown.stdout.contains("\n  found      "),
        "{shown:?}"
    );
}

#[test]
fn every_kind_is_recorded_and_replayed() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    let manifest = Manifest::policies().sync(&["config"], "");
    n1.start(&[]);
    mesh.apply(&manifest, &[n1]);
    let value = mesh.path("value");
    std::fs::write(&value, "one").unwrap();
    n1.cli(["dataset", "put", "config", "before", "-f", text(&value)]).ok();
    let start = |slot: &str| Recorder::start(n1, slot, mesh.path(&format!("{slot}.recording")), &[]);
    // Two at a time is all that a node does.
    let recorders = [start("sync"), start("admission")];
    n1.cli(["record", "discovery", text(&mesh.path("third"))]).refused(5, "busy");
    assert!(!mesh.path("third").exists() && !mesh.path("third.part").exists());
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&manifest, &[n2]);
    n1.links_to(n2);
    n1.cli(["dataset", "put", "config", "while", "-f", text(&value)]).ok();
    has(&mesh.path("sync.recording"), "handle", 4);
    has(&mesh.path("admission.recording"), "admit", 1);
    let [sync, admission] = recorders.map(Recorder::stop);
    let discovery = start("discovery");
    n2.kill();
    n2.start(&["--peer", &n1.peer()]);
    n1.links_to(n2);
    let discovery = discovery.stop();
    assert!(functions(&admission).contains(&"admit"));
    assert!(functions(&sync).iter().filter(|function| **function == "handle").count() > 3);
    for (slot, recording) in [("sync", sync), ("admission", admission), ("discovery", discovery)] {
        assert_eq!(recording.header.slot, slot);
        let report = n1.json(["replay", text(&mesh.path(&format!("{slot}.recording")))]);
        assert_eq!((&report["equal"], &report["kind"]), (&true.into(), &slot.into()), "{report}");
        assert_eq!(
            (&report["fuel-now"], &report["replayed"]),
            (&report["fuel-then"], &recording.calls.len().into())
        );
    }
}

#[test]
fn a_policy_that_traps_is_recorded_on_and_traps_again() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    let (traps, file) = (mesh.path("traps.wasm"), mesh.path("traps.recording"));
    std::fs::write(&traps, acting(&[("DECIDE", "unreachable")])).unwrap();
    mesh.apply(&Manifest::empty().plugin("routing", "routing", &traps, ""), &[n1]);
    let recorder = Recorder::start(n1, "routing", file.clone(), &[]);
    n1.cli(["record", "routing", text(&mesh.path("second"))]).refused(5, "is being recorded already");
    assert_ne!(n1.call("nobody@fabric", "f", &[]).code, 0);
    eventually(PATIENCE, || {
        let plugins = n1.json(["plugins"]);
        if plugins[0]["running"] == true && plugins[0]["restarts"] == 1 {
            Ok(())
        } else {
            Err(plugins.to_string())
        }
    });
    has(&file, "init", 2);
    let recording = recorder.stop();
    let starts = functions(&recording).iter().filter(|function| **function == "init").count();
    assert_eq!(starts, 2, "{:?}", functions(&recording));
    assert!(recording.calls.iter().any(|call| matches!(&call.answer, Answer::Ended(fault) if call.function == "decide" && fault.code.as_str() == "trap")));
    replay(&file, &["--with", text(&traps)]).ok();
    // Another one that does not trap there differs there.
    let good = mesh.path("good.wasm");
    std::fs::write(&good, acting(&[])).unwrap();
    let report: Value = serde_json::from_str(&replay(&file, &["--with", text(&good)]).stdout).unwrap();
    assert_eq!(report["difference"]["function"], "decide");
    assert_eq!(report["difference"]["expected"]["ended"]["code"], "trap");
}

#[test]
fn a_recording_ends_by_itself_and_says_why() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies(), &[n1]);
    let out = mesh.path("short.recording");
    let report = n1.json(["record", "routing", text(&out), "--for", "100ms"]);
    assert_eq!((&report["ended"], &report["slot"]), (&"time".into(), &"routing".into()));
    assert_eq!(report["bytes"], std::fs::metadata(&out).unwrap().len());
    assert_eq!(read(&out).end, Some(Why::Time));
    n1.cli(["record", "routing", text(&out)]).refused(2, "is there already");

    // Another configuration is another policy.
    let mut recorder = Recorder::start(n1, "routing", mesh.path("replaced.recording"), &[]);
    let other = mesh.path("other.wasm");
    std::fs::write(&other, acting(&[])).unwrap();
    let manifest = Manifest::empty().plugin("routing", "routing", &other, "");
    mesh.apply(&manifest, &[n1]);
    assert_eq!(recorder.ends().end, Some(Why::Replaced));

    // The node goes; what was recorded stays.
    let mut recorder = Recorder::start(n1, "routing", mesh.path("lost.recording"), &[]);
    n1.kill();
    assert!(!recorder.process.wait(PATIENCE).success());
    assert_eq!(read(&recorder.file).end, Some(Why::Lost));
    replay(&recorder.file, &["--with", text(&other)]).ok();
    n1.cli(["record", "routing", text(&mesh.path("none"))]).refused(5, "not-running");
    assert!(!mesh.path("none.part").exists());
}

#[test]
fn a_reader_that_sleeps_holds_nobody_up() {
    let mesh = Mesh::of(["n1"]);
    let [n1] = mesh.nodes();
    n1.start(&[]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "math1@fabric", "n1"), &[n1]);
    let mut recorder = Recorder::start(n1, "routing", mesh.path("slow.recording"), &[]);
    let part = mesh.path("slow.recording.part");
    eventually(PATIENCE, || if read(&part).calls.is_empty() { Err("nothing is there yet") } else { Ok(()) });
    recorder.signal(Signal::STOP);
    for _ in 0..20 {
        assert_eq!(n1.call("math1@fabric", "add", &["x=3", "y=4"]).ok(), "7\n");
        assert_eq!(n1.call("nobody@fabric", "f", &[]).code, 4);
    }
    // One that was killed left a file that can be replayed, and the slot can be recorded again.
    recorder.process.kill();
    assert!(
        replay(&part, &["--with", text(&component("routing/path-vector"))]).ok().contains("\"ended\": null")
    );
    n1.cli(["record", "routing", text(&recorder.file)]).refused(2, "was cut off");
    eventually(PATIENCE, || {
        let again = n1.cli(["record", "routing", text(&mesh.path("again")), "--for", "10ms"]);
        if again.code == 0 { Ok(()) } else { Err(again.stderr) }
    });
}

#[test]
fn what_cannot_be_recorded_or_replayed_is_refused_by_name() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies().skill("skill/math1", "math1@fabric", "n1"), &[n1, n2]);
    let file = mesh.path("routing.recording");
    n1.cli(["record", "nothing", text(&file)]).refused(4, "is no slot of this node");
    n1.cli(["record", "skill/math1", text(&file)]).refused(2, "is a skill");
    n1.cli(["record", "routing", text(&file), "--for", "25h"]).refused(2, "for a day at most");
    assert_eq!(
        std::fs::read_dir(mesh.path("."))
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().contains("recording") })
            .count(),
        0
    );

    // Another node, by an operator's key.
    n1.reaches(&format!("{}@node", n2.id()));
    let key = mesh.operator_key();
    let on = ["--on", "n2", "--key", text(&key)];
    let report = n1.json([&on[..], &["record", "routing", text(&file), "--for", "1s"]].concat());
    assert_eq!(report["ended"], "time");

    // The component is not where the file was brought.
    replay(&file, &[]).refused(4, "--with FILE");
    let path_vector = component("routing/path-vector");
    replay(&file, &["--with", text(&path_vector)]).ok();
    replay(&file, &["--with", text(&component("admission/basic"))]).refused(3, "wrong-world");
    replay(&file, &["--with", text(&file)]).refused(3, "bad-component");
    replay(&file, &["--with", "/nowhere/x.wasm"]).refused(4, "not-found");
    replay(&path_vector, &[]).refused(3, "is no recording");
    replay(&mesh.path("missing"), &[]).refused(4, "not-found");

    let bytes = std::fs::read(&file).unwrap();
    let damaged = mesh.path("damaged");
    let check = |bytes: &[u8]| {
        std::fs::write(&damaged, bytes).unwrap();
        replay(&damaged, &["--with", text(&path_vector)])
    };
    let mut altered = bytes.clone();
    let at = altered.windows(6).rposition(|bytes| bytes == b"handle").unwrap();
    altered[at] ^= 1;
    check(&altered).refused(3, "its bytes are not those that were recorded");
    check(&[&bytes[..], &[0]].concat()).refused(3, "follows its end");
    check(&bytes[..40]).refused(3, "is no recording");
    // Cut in its last call: what is whole is replayed, and what is not is counted.
    let cut = check(&bytes[..at]).ok();
    let report: Value = serde_json::from_str(&cut).unwrap();
    assert_eq!((&report["equal"], &report["ended"]), (&true.into(), &Value::Null));
    assert!(report["cut"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["calls"], read(&damaged).calls.len());
}
