//! A policy of a running node that is recorded.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use midplane::words::recording::Recording;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::Process;
use crate::{Node, PATIENCE};

/// A recording that goes on.
pub struct Recorder {
    /// The command that records.
    pub process: Process,
    /// What it writes.
    pub file: PathBuf,
}

impl Recorder {
    /// Begins, and waits until the policy is recorded.
    #[track_caller]
    pub fn start(node: &Node, slot: &str, file: PathBuf, more: &[&str]) -> Self {
        let words = [&["record", slot, file.to_str().unwrap()], more].concat();
        let mut command = node.command(words);
        let mut process = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        let mut said = String::new();
        BufReader::new(process.child().stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with(&format!("recording {slot};")), "{said}");
        Self { process, file }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Interrupts it, and reads what it wrote.
    #[track_caller]
    pub fn stop(mut self) -> Recording {
        self.signal(Signal::INT);
        self.ends()
    }

    /// Waits for its end, and reads what it wrote.
    #[track_caller]
    pub fn ends(&mut self) -> Recording {
        let status = self.process.wait(PATIENCE);
        assert!(status.success(), "{status}");
        read(&self.file)
    }
}

/// Reads a recording.
#[track_caller]
pub fn read(file: &Path) -> Recording {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Recording::read(&bytes).unwrap_or_else(|fault| panic!("{}: {fault}", file.display()))
}
