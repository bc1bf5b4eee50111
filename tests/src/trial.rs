//! A `swap` that tries a component while a test goes on, and components that are other ones and do the same.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::node::Node;
use crate::process::Process;
use crate::wait::PATIENCE;

/// The command, from the moment on at which the candidate is there.
pub struct Trial {
    process: Process,
    stdout: std::process::ChildStdout,
    _stderr: BufReader<ChildStderr>,
}

impl Trial {
    /// Begins, and waits until the node has begun.
    #[track_caller]
    pub fn start(node: &Node, words: &[&str]) -> Self {
        let mut command = node.command(["swap"].iter().chain(words));
        let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let stdout = process.child().stdout.take().expect("it is piped");
        let mut stderr = BufReader::new(process.child().stderr.take().expect("it is piped"));
        let mut said = String::new();
        stderr.read_line(&mut said).expect("it says that it begins, or why not");
        assert!(said.starts_with("component ") || said.starts_with("{\"began\""), "{said}");
        Self { process, stdout, _stderr: stderr }
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Says ctrl-c to it.
    pub fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.pid()).expect("a process number"));
        kill_process(pid.expect("a process number"), Signal::INT).expect("it is there");
    }

    /// Ends it as if its machine were gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Its exit code and its output.
    #[track_caller]
    pub fn ends(mut self) -> (Option<i32>, String) {
        let status = self.process.wait(PATIENCE);
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("text");
        (status.code(), text)
    }
}

/// The same component under another digest.
pub fn renamed(wasm: &[u8]) -> Vec<u8> {
    // A custom section without content: id, length of what follows, length of the name, the name.
    [wasm, &[0, 5, 4], b"same"].concat()
}
