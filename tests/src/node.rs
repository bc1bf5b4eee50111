//! One node as its operator sees it: a directory, sometimes a process, and the command line.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::command::{Outcome, midplane, run};
use crate::process::Process;
use crate::wait::{PATIENCE, eventually};

/// Lines of a node's standard error that a failed test shows.
const SHOWN: usize = 60;
/// Within this an orderly stop ends.
const STOP: Duration = Duration::from_secs(20);

/// A node. Dropping it ends its process; when the test fails, what the process said is printed.
pub struct Node {
    label: String,
    directory: PathBuf,
    address: SocketAddr,
    stderr: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Node {
    pub(crate) fn new(base: &Path, label: &str, address: SocketAddr) -> Self {
        Self {
            label: label.to_owned(),
            directory: base.join(label),
            address,
            stderr: base.join(format!("{label}.stderr")),
            process: Mutex::new(None),
        }
    }

    /// Its data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where it listens when it is started with [`Node::start`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its identity.
    pub fn id(&self) -> String {
        let keys = self.json(["key", "show"]);
        keys[0]["id"].as_str().expect("the node's key is the first").to_owned()
    }

    /// `ID@ADDRESS`, for the `--peer` of another node.
    pub fn peer(&self) -> String {
        format!("{}@{}", self.id(), self.address)
    }

    /// The command line for this node.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = midplane(["--data-dir".as_ref(), self.directory.as_os_str()]);
        command.args(arguments);
        command
    }

    /// Runs a command.
    #[track_caller]
    pub fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.command(arguments), PATIENCE)
    }

    /// Runs a command that reports.
    #[track_caller]
    pub fn json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        let arguments: Vec<OsString> = arguments.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self.cli(arguments.into_iter().chain(["-o".into(), "json".into()])).json()
    }

    /// The last event of this name.
    pub fn last_event(&self, name: &str) -> Option<Value> {
        let events = self.cli(["events", "-n", "1000", "-o", "json"]).ok();
        let mut events = events.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.rfind(|event| event["event"] == name)
    }

    /// Waits for an event of this name.
    #[track_caller]
    pub fn tells(&self, name: &str) -> Value {
        let mut found = None;
        eventually(PATIENCE, || {
            found = self.last_event(name);
            if found.is_some() { Ok(()) } else { Err(format!("{} tells of no {name}", self.label)) }
        });
        found.expect("it was waited for")
    }

    /// Calls a function.
    #[track_caller]
    pub fn call(&self, name: &str, function: &str, arguments: &[&str]) -> Outcome {
        self.cli(["call", name, function].iter().chain(arguments))
    }

    /// Starts it at its own address and waits until it answers; `arguments` are of `run`.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) {
        let port = self.address.port().to_string();
        let bind = self.address.ip().to_string();
        let own = ["--port", &port, "--bind", &bind];
        self.start_with(self.command(["run"].iter().chain(&own).chain(arguments)));
    }

    /// Starts it with this command and waits until it answers.
    #[track_caller]
    pub fn start_with(&self, mut command: Command) {
        let stderr = OpenOptions::new().create(true).append(true).open(&self.stderr).expect("a log file");
        let mut process = Process::spawn(command.stdout(Stdio::null()).stderr(stderr));
        eventually(PATIENCE, || {
            if let Some(status) = process.ended() {
                panic!("{} ended at its start ({status}): {}", self.label, self.said());
            }
            let status = self.cli(["status"]);
            if status.code == 0 { Ok(()) } else { Err(status.stderr) }
        });
        *self.process.lock().unwrap() = Some(process);
    }

    /// Stops it in order.
    #[track_caller]
    pub fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().expect("it runs");
        process.terminate();
        let status = process.wait(STOP);
        assert!(status.success(), "{} stopped with {status}: {}", self.label, self.said());
    }

    /// Ends its process at once.
    #[track_caller]
    pub fn kill(&self) {
        self.process.lock().unwrap().take().expect("it runs").kill();
    }

    /// Whether its process has ended by itself, or was ended by somebody else. Then it can be started again.
    #[track_caller]
    pub fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap();
        let ended = process.as_mut().expect("it was started").ended().is_some();
        if ended {
            *process = None;
        }
        ended
    }

    /// Its process number.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().as_ref().expect("it runs").pid()
    }

    /// Its standard error so far, all starts together.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it has a link to the other.
    #[track_caller]
    pub fn links_to(&self, other: &Node) {
        let id = other.id();
        eventually(PATIENCE, || {
            let peers = self.json(["peers"]);
            let linked = |peer: &Value| peer["node"] == id.as_str() && peer["state"] == "linked";
            if peers.as_array().unwrap().iter().any(linked) {
                Ok(())
            } else {
                Err(format!("{} has no link to {}: {peers}", self.label, other.label))
            }
        });
    }

    /// Waits until the best way to a name, proven by a claim, is over this peer.
    #[track_caller]
    pub fn reaches_over(&self, name: &str, next: &Node) {
        eventually(PATIENCE, || {
            let routes = self.json(["routes", name]);
            let best = &routes[0]["hops"][0];
            let over = best["next"] == next.id().as_str() && best["claimed"] == true;
            if over { Ok(()) } else { Err(routes.to_string()) }
        });
    }

    /// Waits until it can reach the name.
    #[track_caller]
    pub fn reaches(&self, name: &str) {
        eventually(PATIENCE, || {
            let route = &self.json(["routes", name])[0];
            let hops = route["hops"].as_array().unwrap();
            if route["local"] == true || hops.iter().any(|hop| hop["claimed"] == true) {
                Ok(())
            } else {
                Err(format!("{} does not reach it: {route}", self.label))
            }
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default();
            eprintln!("--- standard error of {} ---\n{}", self.label, last.join("\n"));
        }
    }
}
