//! `make demo-swap`: two nodes are called without a pause while what they run is replaced, a plugin a second.
//!
//! Real nodes, each a process, and the real command line. A line a second; at the end what it came to. Ends with 1 when a call failed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use midplane_tests::command::component;
use midplane_tests::load::socket;
use midplane_tests::load::stamps::{marked, stamped};
use midplane_tests::wait::number;
use midplane_tests::{Manifest, Mesh, Node, http};

/// How long it goes on.
const SECONDS: u64 = 60;
/// Callers of each way: a skill on the node, the same over the link, and HTTP.
const CALLERS: usize = 2;
/// Pause between two calls of a skill: each is a connection of the control socket, which takes only so many.
const PAUSE: Duration = Duration::from_millis(3);
/// Failures that are told in words.
const TOLD: u64 = 5;
/// What is replaced, in turns.
const SLOTS: [&str; 6] = ["routing", "skill/n1", "discovery", "gateway", "admission", "skill/n2"];

/// What the callers count.
#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

/// Files of components, two of each, and which of them each slot has.
struct Versions<'a> {
    mesh: &'a Mesh,
    now: [u64; SLOTS.len()],
}

impl Versions<'_> {
    /// The file of a slot's component.
    fn file(&self, slot: usize) -> PathBuf {
        let (name, number) = (SLOTS[slot], self.now[slot]);
        let path = self.mesh.path(&format!("{}-{number}.wasm", name.replace('/', "-")));
        let read = |name| std::fs::read(component(name)).expect("make guests");
        let bytes = match name {
            "routing" => marked(&read("routing/path-vector"), number),
            "discovery" => marked(&read("discovery/static"), number),
            "admission" => marked(&read("admission/basic"), number),
            "gateway" => stamped(&read("test/gateway/stamped"), number),
            _ => stamped(&read("test/skill/stamped"), number),
        };
        std::fs::write(&path, bytes).expect("room for a component");
        path
    }

    fn manifest(&self) -> Manifest {
        let mut manifest = Manifest::empty();
        for (slot, name) in SLOTS.iter().enumerate() {
            let (kind, node) = name.split_once('/').unwrap_or((name, ""));
            let more = match kind {
                "routing" => "protocol = \"path-vector/1\"".to_owned(),
                "gateway" => "mount = \"/stamp\"".to_owned(),
                "skill" => format!("names = [\"{node}@fabric\"]\non = {{ labels = [\"{node}\"] }}"),
                _ => String::new(),
            };
            manifest = manifest.plugin(name, kind, &self.file(slot), &more);
        }
        manifest
    }
}

fn main() -> ExitCode {
    let seconds = number("DEMO_SECONDS").unwrap_or(SECONDS);
    let mesh = Mesh::of(["n1", "n2"]);
    let nodes = mesh.nodes();
    let [n1, n2] = nodes;
    n1.start(&["--http", "127.0.0.1:0"]);
    n2.start(&["--peer", &n1.peer()]);
    let mut versions = Versions { mesh: &mesh, now: [0; SLOTS.len()] };
    mesh.apply(&versions.manifest(), &nodes);
    n1.reaches("n2@fabric");
    let counts = Arc::new(Counts::default());
    let callers = callers(n1, &counts);
    println!(
        "two nodes; n1 is called by {} callers: its own skill, that of n2, and over HTTP",
        callers.len()
    );
    println!("{:>7}  {:>7}  {:>6}  {:>10}", "seconds", "calls/s", "failed", "generation");
    let started = Instant::now();
    let mut swaps = 0;
    for second in 1..=seconds {
        let before = (Instant::now(), counts.calls.load(Ordering::Relaxed));
        let what = if second % 10 == 0 {
            nodes.iter().for_each(|node| _ = node.cli(["rollback"]).ok());
            "rolled back".to_owned()
        } else {
            let slot = second as usize % SLOTS.len();
            versions.now[slot] = 1 - versions.now[slot];
            mesh.apply(&versions.manifest(), &nodes);
            format!("{} replaced", SLOTS[slot])
        };
        swaps += 1;
        let due = started + Duration::from_secs(second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let calls =
            (counts.calls.load(Ordering::Relaxed) - before.1) as f64 / before.0.elapsed().as_secs_f64();
        let failed = counts.failed.load(Ordering::Relaxed);
        let generation = n1.json(["status"])["generation"].clone();
        println!("{second:>7}  {calls:>7.0}  {failed:>6}  {generation:>10}  {what}");
    }
    counts.stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().expect("a caller does not panic"));
    let (calls, failed) = (counts.calls.load(Ordering::Relaxed), counts.failed.load(Ordering::Relaxed));
    println!("{calls} calls, {failed} failed, while {swaps} generations were put in force on two nodes");
    if failed == 0 && calls > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sets the callers to work.
fn callers(node: &Node, counts: &Arc<Counts>) -> Vec<JoinHandle<()>> {
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        for name in ["n1@fabric", "n2@fabric"] {
            let (socket, counts) = (node.directory().join("control.sock"), counts.clone());
            callers.push(std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                counts.go(|| match runtime.block_on(socket::call(&socket, name, "stamp")) {
                    Ok(_) => {
                        std::thread::sleep(PAUSE);
                        Ok(())
                    }
                    Err(fault) => Err(fault.to_string()),
                });
            }));
        }
        let (address, counts) = (http::address(node), counts.clone());
        callers.push(std::thread::spawn(move || {
            let mut client = http::Client::to(address);
            counts.go(|| match client.get("/stamp") {
                answer if answer.status == 200 && answer.whole => Ok(()),
                answer => Err(format!("{answer:?}")),
            });
        }));
    }
    callers
}

impl Counts {
    /// Calls again and again.
    fn go(&self, mut call: impl FnMut() -> Result<(), String>) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(why) = call()
                && self.failed.fetch_add(1, Ordering::Relaxed) < TOLD
            {
                eprintln!("failed: {why}");
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}
