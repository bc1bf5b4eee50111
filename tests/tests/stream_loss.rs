//! Long answers: the one who gives them goes, and the one who reads them goes.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

use midplane_tests::process::Process;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

/// A link is given up after 10 s without a sign of life; the rest is for the words about it.
const NOTICED: Duration = Duration::from_secs(25);
/// Lines after which an answer certainly flows.
const FLOWS: usize = 1_000;

/// `endless` on n2, once at a time: a second call is `busy` until the first one's guest is gone.
fn endless() -> Manifest {
    let component = midplane_tests::command::component("test/skill/endless");
    let more = "names = [\"endless@fabric\"]\non = { labels = [\"n2\"] }\nlimits = { deadline = \"1h\", concurrency = 1 }";
    Manifest::policies().plugin("skill/endless", "skill", &component, more)
}

fn mesh() -> Mesh {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n2.start(&[]);
    n1.start(&["--peer", &n2.peer()]);
    mesh.apply(&endless(), &[n1, n2]);
    n1.reaches("endless@fabric");
    mesh
}

/// A call whose answer flows.
struct Flow {
    process: Process,
    answer: BufReader<ChildStdout>,
}

impl Flow {
    /// Starts the call and reads its first lines. Nothing more is read: from here on the guest waits for the reader.
    fn start(node: &Node) -> Self {
        let mut command = node.command(["--timeout", "1h", "call", "endless@fabric", "count"]);
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut answer = BufReader::new(process.child().stdout.take().unwrap());
        for number in 0..FLOWS {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            assert_eq!(line, format!("{number}\n"));
        }
        Self { process, answer }
    }
}

#[track_caller]
fn is_free(node: &Node) {
    eventually(PATIENCE, || {
        let outcome = node.call("endless@fabric", "one", &[]);
        if outcome.code == 0 { Ok(()) } else { Err(outcome.stderr) }
    });
}

#[test]
fn a_stream_whose_giver_is_killed_ends_with_link_lost() {
    let mesh = mesh();
    let [n1, n2] = mesh.nodes();
    let mut flow = Flow::start(n1);
    n2.kill();
    let killed = Instant::now();
    // What was under way still comes; then the end must.
    for (number, line) in (FLOWS..).zip(flow.answer.lines()) {
        assert_eq!(line.unwrap(), number.to_string(), "a number is missing");
    }
    let status = flow.process.wait(NOTICED);
    assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
    let mut stderr = String::new();
    flow.process.child().stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(5), "{stderr}");
    assert!(stderr.starts_with("link-lost: "), "{stderr}");
    // The table of links is changed by another task than that which ends the stream.
    let gone = eventually(PATIENCE, || {
        let outcome = n1.call("endless@fabric", "one", &[]);
        if outcome.stderr.starts_with("no-route: ") { Ok(outcome) } else { Err(outcome.stderr) }
    });
    gone.fails(4, "no-route");
    n2.start(&[]);
    is_free(n1);
    let mut again = Flow::start(n1);
    assert!(again.process.ended().is_none());
}

#[test]
fn a_stream_whose_giver_stops_in_order_ends_at_once() {
    let mesh = mesh();
    let [n1, n2] = mesh.nodes();
    let mut flow = Flow::start(n1);
    n2.stop();
    let stopped = Instant::now();
    std::io::copy(&mut flow.answer, &mut std::io::sink()).unwrap();
    assert_eq!(flow.process.wait(PATIENCE).code(), Some(5));
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}

#[test]
fn a_stream_whose_reader_is_killed_ends_its_guest() {
    let mesh = mesh();
    let [n1, n2] = mesh.nodes();
    for reader in [n2, n1] {
        let mut flow = Flow::start(reader);
        // One at a time: as long as the guest lives, nobody else is served.
        n2.call("endless@fabric", "one", &[]).fails(5, "busy");
        n1.call("endless@fabric", "one", &[]).fails(5, "busy");
        flow.process.kill();
        is_free(n2);
        is_free(n1);
    }
}

#[test]
fn a_stream_whose_readers_node_is_killed_ends_its_guest() {
    let mesh = mesh();
    let [n1, n2] = mesh.nodes();
    let _flow = Flow::start(n1);
    n2.call("endless@fabric", "one", &[]).fails(5, "busy");
    n1.kill();
    let killed = Instant::now();
    is_free(n2);
    assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
}
