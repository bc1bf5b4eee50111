//! A node of its own process, with as many skills as are wanted.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;

/// Time until a node answers.
const READY: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_micros(200);

/// The directory of a node that has run once, so that everything is compiled and applied.
pub struct Prepared {
    directory: tempfile::TempDir,
}

/// A node that runs. Dropping it ends it.
pub struct Running(Child);

/// Memory in bytes.
pub struct Held {
    /// All of it.
    pub whole: u64,
    /// Without pages of files, which the kernel may share or take back.
    pub own: u64,
}

impl Prepared {
    /// A node with the three policies and so many copies of a skill, `skill1@bench` and so on.
    pub fn new(skills: usize) -> Result<Self, Failure> {
        let private = std::fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("midplane-bench-").permissions(private).tempdir()?;
        let prepared = Self { directory };
        let manifest = prepared.directory.path().join("weight.toml");
        std::fs::write(&manifest, text(skills))?;
        prepared.cli(&["init", "--label", "n1"])?;
        let running = prepared.spawn()?;
        prepared.until_ready(&["status"])?;
        prepared.cli(&["apply", &manifest.to_string_lossy()])?;
        drop(running);
        Ok(prepared)
    }

    /// Starts it.
    pub fn spawn(&self) -> Result<Running, Failure> {
        let mut command = self.command(&["run", "--port", "0", "--bind", "127.0.0.1"])?;
        Ok(Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Runs a command until it works.
    pub fn until_ready(&self, arguments: &[&str]) -> Result<(), Failure> {
        let give_up = Instant::now() + READY;
        let socket = self.data().join("control.sock");
        loop {
            // Asking costs a process each time; looking whether somebody listens costs nothing.
            let listens = std::os::unix::net::UnixStream::connect(&socket).is_ok();
            match listens.then(|| self.cli(arguments)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(failure)) if Instant::now() >= give_up => return Err(failure),
                None if Instant::now() >= give_up => return Err("the node does not start".into()),
                _ => std::thread::sleep(LOOK),
            }
        }
    }

    fn cli(&self, arguments: &[&str]) -> Result<(), Failure> {
        let done = self.command(arguments)?.output()?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into())
    }

    fn command(&self, arguments: &[&str]) -> Result<Command, Failure> {
        let own = std::env::current_exe()?;
        let program = own.ancestors().nth(2).map(|profile| profile.join("midplane"));
        let program = program.filter(|program| program.exists()).ok_or("make plugins")?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(self.data()).args(arguments).stdin(Stdio::null());
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("n1")
    }
}

impl Running {
    /// Memory that the process holds, once it does not change any more.
    pub fn resident(&self) -> Result<Held, Failure> {
        let mut before = self.status("VmRSS")?;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.status("VmRSS")?;
            if now.abs_diff(before) < 256 {
                return Ok(Held { whole: now * 1_024, own: self.status("RssAnon")? * 1_024 });
            }
            before = now;
        }
    }

    fn status(&self, field: &str) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?;
        Ok(number.parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The file of a component that `make plugins` built.
pub fn component(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins").join(name).with_extension("wasm")
}

fn text(skills: usize) -> String {
    let mut text = String::new();
    let mut add = |slot: &str, kind: &str, name: &str, more: &str| {
        let component = component(name);
        writeln!(
            text,
            "[[plugin]]\nslot = {slot:?}\nkind = {kind:?}\ncomponent = {:?}\n{more}",
            component.display().to_string()
        )
        .expect("a string takes everything");
    };
    add("discovery", "discovery", "discovery/static", "");
    add("admission", "admission", "admission/basic", "");
    add("routing", "routing", "routing/path-vector", "protocol = \"path-vector/1\"");
    for number in 1..=skills {
        add(
            &format!("skill/s{number}"),
            "skill",
            "skill/math1",
            &format!("names = [\"skill{number}@bench\"]"),
        );
    }
    text
}
