//! A process that is ended exactly where it is about to change the disk, by Debian's `strace`.

use std::io::{BufRead, BufReader};
use std::process::{ChildStderr, Command, Stdio};

use crate::process::Process;

/// Ends a process when one of its threads makes a call for the nth time from now on. Dropping it lets the process alone: the kernel sets
/// free whom a tracer leaves behind.
pub struct Strace {
    _process: Process,
    // What it says is not read, but it must be able to say it.
    _stderr: BufReader<ChildStderr>,
}

impl Strace {
    /// From now on one of these system calls, names separated by commas, is the process's last: the nth that any one of its threads
    /// makes, or the thread of this name. It is not carried out.
    #[track_caller]
    pub fn attach(pid: u32, thread: Option<&str>, calls: &str, nth: u64) -> Self {
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        let mut command = Command::new("strace");
        match thread {
            None => command.args(["-f", "-p", &pid.to_string()]),
            Some(name) => command.args(["-p", &named(pid, name)]),
        };
        command.args(["-e", &format!("trace={calls}"), "-e", &inject]);
        command.args(["-o", "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        assert!(is_there(), "strace is missing: apt-get install strace");
        let mut strace = Process::spawn(&mut command);
        let mut said = String::new();
        let mut stderr = BufReader::new(strace.child().stderr.take().expect("it is piped"));
        stderr.read_line(&mut said).expect("it is read");
        assert!(
            said.contains("attached"),
            "strace cannot attach, which needs root or kernel.yama.ptrace_scope=0: {said}"
        );
        Self { _process: strace, _stderr: stderr }
    }
}

/// The number of the thread of this name.
#[track_caller]
fn named(pid: u32, name: &str) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let mut threads = threads.map(|thread| thread.expect("a thread").path());
    let is = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let thread = threads.find(is).unwrap_or_else(|| panic!("{pid} has no thread {name}"));
    thread.file_name().and_then(|number| number.to_str()).expect("a number").to_owned()
}

/// Whether it is installed.
fn is_there() -> bool {
    Command::new("strace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
