//! A process that ends with its handle.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually;

/// A child. Dropping it kills it and waits for its end, also when the test panics.
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("the process is ours");
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        self.0.kill().expect("the process is ours");
        self.0.wait().expect("the process is ours");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the process is ours")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        eventually(patience, || self.ended().ok_or("it still runs"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
