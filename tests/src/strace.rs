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
    /// makes. It is not carried out.
    #[track_caller]
    pub fn attach(pid: u32, calls: &str, nth: u64) -> Self {
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}"), "-e", &inject]);
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

/// Whether it is installed.
fn is_there() -> bool {
    Command::new("strace").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
