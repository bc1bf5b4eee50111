//! `kill -9` at every system call with which a change of what runs changes the disk: afterwards the node runs the old generation or the
//! new one, whole, and nothing that was acknowledged is lost.
//!
//! A run of `make test` takes every call but for some of those that only open files; `make test-kills` takes those as well. Needs
//! Debian's strace.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use midplane_tests::command::component;
use midplane_tests::load::stamps::stamped;
use midplane_tests::process::Process;
use midplane_tests::strace::Strace;
use midplane_tests::wait::number;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, eventually};

/// Calls that change the disk, and whether each of them is taken in every run.
const CALLS: [(&str, bool); 10] = [
    ("?rename,?renameat,?renameat2", true),
    ("fsync", true),
    ("fdatasync", true),
    ("?unlink,unlinkat,?rmdir", true),
    ("?mkdir,mkdirat", true),
    ("?link,linkat,?symlink,symlinkat", true),
    ("ftruncate,fallocate", true),
    ("write", true),
    ("pwrite64", true),
    ("openat", false),
];
/// Whose calls are counted: each thread's, so that whoever comes so far first is cut; and those of the one that makes the change, which others
/// would be cut before.
const THREADS: [Option<&str>; 2] = [None, Some("changes")];
/// Of those that are not taken in every run, one in so many is.
const ONE_IN: u64 = 5;
/// An operation that changes the disk more often than this never ends.
const MOST: u64 = 400;

/// What a node runs: a version, the stamp that its skill answers, and whether that is another skill than the version names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Runs {
    version: u64,
    stamp: u64,
    swapped: bool,
}

/// A node, and what has to be true of it.
struct Fixture {
    mesh: Mesh,
    runs: Runs,
    before: Runs,
    floor: u64,
    /// Stamps that were used.
    stamps: AtomicU64,
    /// What was written last into the dataset.
    written: u64,
}

/// A way to change what runs.
struct Operation {
    name: &'static str,
    /// The command, and what runs when it is done.
    next: fn(&Fixture) -> (Vec<String>, Runs),
}

/// The skill was here before, so that neither blobs nor code are written.
const APPLY: Operation = Operation { name: "apply", next: |fixture| fixture.apply(fixture.before.stamp) };
/// The skill is uploaded and compiled.
const APPLY_NEW: Operation =
    Operation { name: "apply of something new", next: |fixture| fixture.apply(fixture.another_stamp()) };
/// So is this one, on this node only.
const SWAP: Operation = Operation {
    name: "swap",
    next: |fixture| {
        let stamp = fixture.another_stamp();
        let command = ["swap", "skill/stamped", &fixture.skill(stamp)].map(str::to_owned);
        (command.to_vec(), Runs { stamp, swapped: true, ..fixture.runs })
    },
};
const ROLLBACK: Operation = Operation {
    name: "rollback",
    next: |fixture| {
        let Runs { version, .. } = fixture.before;
        (vec!["rollback".to_owned(), version.to_string()], fixture.before)
    },
};

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    /// The node was ended.
    Killed,
    /// It goes on; whoever it had asked to do something was ended.
    Refused,
    /// Nobody came so far.
    Done,
}

impl Fixture {
    fn new() -> Self {
        let mesh = Mesh::of(["n1"]);
        let nothing = Runs { version: 0, stamp: 0, swapped: false };
        let stamps = AtomicU64::new(1);
        let mut fixture = Self { mesh, runs: nothing, before: nothing, floor: 0, stamps, written: 0 };
        fixture.start();
        for _ in 0..2 {
            let (command, next) = (APPLY_NEW.next)(&fixture);
            fixture.node().cli(&command).ok();
            fixture.became(next);
        }
        fixture
    }

    /// An entry that the node acknowledges, and which its sync policy has not saved yet.
    fn write(&mut self) {
        self.written += 1;
        let value = self.mesh.path("value");
        std::fs::write(&value, self.written.to_string()).unwrap();
        self.node().cli(["dataset", "put", "config", "written", "-f", value.to_str().unwrap()]).ok();
    }

    /// Waits until what runs has shown that it is good: otherwise the node would go back by itself after a few ends.
    fn settles(&self) {
        eventually(PATIENCE, || {
            let status = self.node().json(["status"]);
            if status["probation"].is_null() { Ok(()) } else { Err(status) }
        });
    }

    fn node(&self) -> &Node {
        let [node] = self.mesh.nodes();
        node
    }

    /// With one worker, so that calls are made in order by one thread.
    fn start(&self) {
        let (node, bind) = (self.node(), self.node().address().ip().to_string());
        let mut command = node.command(["run", "--port", "0", "--bind", &bind]);
        command.env("TOKIO_WORKER_THREADS", "1");
        node.start_with(command);
    }

    fn another_stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a skill is that answers a stamp.
    fn skill(&self, stamp: u64) -> String {
        let skill = self.mesh.path("skill.wasm");
        let bytes = std::fs::read(component("test/skill/stamped")).unwrap();
        std::fs::write(&skill, stamped(&bytes, stamp)).unwrap();
        skill.to_str().unwrap().to_owned()
    }

    fn apply(&self, stamp: u64) -> (Vec<String>, Runs) {
        let skill = self.skill(stamp);
        // What the policy is told differs as well, so that it is replaced.
        let keep = format!("config = {{ keep-removed = \"{}min\" }}", 10 + stamp % 2);
        let manifest = Manifest::policies().probation("1s").sync(&["config"], &keep).plugin(
            "skill/stamped",
            "skill",
            Path::new(&skill),
            "names = [\"stamped@fabric\"]",
        );
        let file = manifest.write(self.mesh.path("next.toml"));
        let command = ["apply", "--allow-grants", file.to_str().unwrap()].map(str::to_owned);
        (command.to_vec(), Runs { version: self.floor + 1, stamp, swapped: false })
    }

    fn became(&mut self, next: Runs) {
        if next != self.runs {
            (self.runs, self.before) = (next, self.runs);
        }
        self.floor = self.floor.max(next.version);
    }

    /// Runs the operation until one of the node's threads, or that of this name, makes the nth such call.
    fn attempt(&mut self, operation: &Operation, thread: Option<&str>, calls: &str, nth: u64) -> Came {
        self.settles();
        self.write();
        let (words, next) = (operation.next)(self);
        let node = self.node();
        let strace = Strace::attach(node.pid(), thread, calls, nth);
        let mut process = Process::spawn(node.command(&words).stdout(Stdio::null()).stderr(Stdio::null()));
        let acknowledged = process.wait(PATIENCE).success();
        drop(strace);
        let killed = eventually(PATIENCE, || match (node.has_ended(), node.cli(["status"]).code) {
            (true, _) => Ok(true),
            (false, 0) => Ok(false),
            (false, code) => Err(format!("it has not ended, and status ends with {code}")),
        });
        let came = match (killed, acknowledged) {
            (true, _) => Came::Killed,
            (false, false) => Came::Refused,
            (false, true) => Came::Done,
        };
        let place = format!("{}, {calls} {nth}", operation.name);
        if came == Came::Killed {
            self.start();
        }
        self.check(&place, acknowledged, next);
        came
    }

    /// The old or the new one, whole, and nothing lost.
    fn check(&mut self, place: &str, acknowledged: bool, next: Runs) {
        let node = self.node();
        let status = node.json(["status"]);
        let answer = node.call("stamped@fabric", "stamp", &[]).ok();
        let (version, stamp) = (status["generation"].as_u64().unwrap(), answer.trim_end().parse().unwrap());
        let runs = Runs { version, stamp, swapped: status["swaps"].is_array() };
        let old = self.runs;
        assert!(
            runs == next || runs == old && !acknowledged,
            "{place}: from {old:?} to {next:?}, acknowledged: {acknowledged}, but {runs:?}: {status}"
        );
        let floor = status["floor"].as_u64().unwrap();
        assert!(floor >= self.floor && floor >= version, "{place}: floor {} became {status}", self.floor);
        // A rollback is a hold, and a hold is a warning; so is a swap, and nothing else.
        let held = status["held-instead-of"].is_u64();
        let warnings = status["warnings"].as_array().unwrap().len();
        assert_eq!(warnings, usize::from(held) + usize::from(runs.swapped), "{place}: {status}");
        let written = node.cli(["dataset", "get", "config", "written"]).ok();
        assert_eq!(written, self.written.to_string(), "{place}");
        let left = std::fs::read_dir(node.directory().join("blobs/tmp")).unwrap().count();
        assert_eq!(left, 0, "{place}: {left} temporary files");
        let history = node.json(["history"]);
        let known: Vec<u64> =
            history.as_array().unwrap().iter().map(|row| row["version"].as_u64().unwrap()).collect();
        assert!(known.len() >= 2 && known.contains(&version), "{place}: {history}");
        self.became(runs);
        self.floor = floor;
    }

    /// Every point of an operation, or as many as are taken in every run.
    fn walk(&mut self, operation: &Operation) {
        let all = number("MIDPLANE_KILL_POINTS").is_some();
        let (mut points, mut refused) = (0, 0);
        let threads = THREADS.into_iter().flat_map(|thread| CALLS.map(|calls| (thread, calls)));
        for (thread, (calls, always)) in threads {
            let step = if all || always { 1 } else { ONE_IN };
            let mut nth = 1;
            loop {
                match self.attempt(operation, thread, calls, nth) {
                    Came::Killed => points += 1,
                    Came::Refused => refused += 1,
                    Came::Done => break,
                }
                nth += step;
                assert!(nth < MOST, "{}: {calls} has no end", operation.name);
            }
        }
        eprintln!("{}: ended at {points} points; {refused} times somebody else was", operation.name);
        assert!(points > 8, "{}: only {points} points", operation.name);
    }
}

#[test]
fn an_apply_is_whole_wherever_it_is_cut() {
    Fixture::new().walk(&APPLY);
}

#[test]
fn an_apply_with_new_bytes_is_whole_wherever_it_is_cut() {
    Fixture::new().walk(&APPLY_NEW);
}

#[test]
fn a_swap_is_whole_wherever_it_is_cut() {
    Fixture::new().walk(&SWAP);
}

#[test]
fn a_rollback_is_whole_wherever_it_is_cut() {
    Fixture::new().walk(&ROLLBACK);
}
