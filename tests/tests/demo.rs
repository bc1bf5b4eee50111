//! The demo is what a newcomer runs first: three lines, and with `V=1` the way of each call.

use std::process::Command;
use std::time::Duration;

use midplane_tests::command::{Outcome, binary, component, root, run};

/// Two nodes start, compile five components each, and answer.
const PATIENCE: Duration = Duration::from_secs(120);
const ANSWERS: &str = "7\n42\n0 1 1 2 3 5 8 13 21 34\n";

fn demo(verbose: &str) -> Outcome {
    component("skill/math1");
    let mut command = Command::new("sh");
    command.arg(root().join("tests/demo.sh")).env("MIDPLANE", binary()).env("V", verbose);
    run(&mut command, PATIENCE)
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
