//! One run of the command line.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;

/// How a run ended and what it wrote.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; of a process that a signal ended, minus the signal's number.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The output of a run that worked.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// The output of a run that worked, as JSON that stands alone.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// The failure of a run that was to fail: its exit code and the code that its message begins with are these, and nothing
    /// stands on standard output. Answers the message.
    #[track_caller]
    pub fn fails(&self, code: i32, word: &str) -> &str {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.starts_with(&format!("{word}: ")), "no {word}: {self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        &self.stderr
    }
}

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The program under test.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("MIDPLANE_BIN")
        .map_or_else(|| root().join("target/release/midplane"), PathBuf::from);
    assert!(path.is_file(), "{} is missing: make plugins", path.display());
    path
}

/// A component that `make plugins` builds, for example `skill/math1`.
pub fn component(name: &str) -> PathBuf {
    let path = root().join("target/plugins").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: make plugins", path.display());
    path
}

/// The program, with nothing of this process's settings.
pub fn midplane<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MIDPLANE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end, which is to come within this time.
#[track_caller]
pub fn run(command: &mut Command, patience: Duration) -> Outcome {
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (stdout, stderr) = (process.child().stdout.take(), process.child().stderr.take());
    let stdout = std::thread::spawn(|| text(stdout));
    let stderr = std::thread::spawn(|| text(stderr));
    let status = process.wait(patience);
    Outcome {
        code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
        stdout: stdout.join().expect("reading does not panic"),
        stderr: stderr.join().expect("reading does not panic"),
    }
}

fn text(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // A pipe that breaks has given what it had.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
