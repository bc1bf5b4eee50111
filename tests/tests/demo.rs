//! The demo is what a newcomer runs first: three lines, and with `V=1` the way of each call.

use std::process::Command;
use std::time::Duration;

use midplane_tests::command::{Outcome, binary, component, root, run};

/// Two nodes start, compile five components each, and answer.
const PATIENCE: Duration = Duration::from_secs(120);
const ANSWERS: &str = "7\n42\n0 1 1 2 3 5 8 13 21 34\n";

/// Runs the demo, which is to leave nothing behind.
fn demo(verbose: &str) -> Outcome {
    component("skill/math1");
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.arg(root().join("tests/demo.sh"));
    command.env("MIDPLANE", binary()).env("V", verbose).env("TMPDIR", place.path());
    let outcome = run(&mut command, PATIENCE);
    let files: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.is_empty(), "{files:?} are left behind");
    let place = place.path().to_string_lossy().into_owned();
    let mentions = |process: &std::path::Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&place)
    };
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| mentions(path))
        .collect();
    assert!(left.is_empty(), "{left:?} outlive the demo");
    outcome
}

#[test]
fn prints_three_lines_and_nothing_else() {
    let quiet = demo("");
    assert_eq!((quiet.code, quiet.stdout.as_str()), (0, ANSWERS), "{quiet:#?}");
    assert!(!quiet.stderr.contains("hop:"), "{quiet:#?}");
}

#[test]
fn shows_each_hop_on_standard_error_when_asked() {
    let verbose = demo("1");
    assert_eq!((verbose.code, verbose.stdout.as_str()), (0, ANSWERS), "{verbose:#?}");
    let hops: Vec<&str> = verbose.stderr.lines().filter(|line| line.starts_with("hop: ")).collect();
    let [add, multiply, out, there] = hops[..] else { panic!("not four hops: {verbose:#?}") };
    for local in [add, multiply] {
        assert!(local.starts_with("hop: n1 (") && local.contains("served here"), "{local}");
    }
    assert!(out.starts_with("hop: n1 (") && out.contains(" over n2"), "{out}");
    assert!(there.starts_with("hop: n2 (") && there.contains("served math2@fabric fib-stream"), "{there}");
}
