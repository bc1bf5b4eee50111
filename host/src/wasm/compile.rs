//! Compiling, in a child process that may die of it.
//!
//! Wasmtime does not count denial of service while compiling as a vulnerability: 1.4 MB of empty functions take 10 s
//! and 1.25 GB. So the same binary runs as `compile-worker`, limits itself before it reads a byte, and a component that
//! explodes the compiler, or the validator before it, kills only that child.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::engine::{self, Kind};
use super::preflight;
use crate::decisions::sizing::{Memories, Plan};
use crate::log;
use crate::words::{Code, Fault, Outcome, objects};

/// Largest component. A JavaScript or Python one with its runtime has 12 to 18 MB.
pub const COMPONENT_MAX: u64 = 64 << 20;
/// Processor time of the worker: an 18 MB component needs 10 s on two cores.
const WORKER_CPU_S: u64 = 60;
/// Wall-clock time after which the worker is killed.
const WORKER_WALL: Duration = Duration::from_secs(120);
/// Native code is larger than wasm, by less than this factor for anything real.
const OUTPUT_MAX: u64 = COMPONENT_MAX * 8;
/// Bytes of the worker's error text that are kept.
const STDERR_MAX: u64 = 16 << 10;
/// The worker's exit code for a component that is refused; its standard error is the fault in JSON.
const EXIT_INVALID: i32 = 65;

/// Longest name of an engine.
const NAME_MAX: usize = 32;
/// The exit code of a worker that panicked.
const EXIT_PANIC: i32 = 101;

/// Runs workers.
#[derive(Clone)]
pub struct Compiler {
    executable: PathBuf,
    plan: Plan,
    places: Arc<Semaphore>,
}

impl Compiler {
    /// `executable` is the `midplane` binary; `plan` is that of the engines which will run the code.
    pub fn new(executable: PathBuf, plan: Plan) -> Self {
        let places = Arc::new(Semaphore::new(plan.compile_workers as usize));
        Self { executable, plan, places }
    }

    /// Compiles a component for what a plugin of this kind is: the engine that runs it, and its native code.
    ///
    /// # Errors
    /// Those of [`preflight::engine_for`], which the worker asks, and `too-big-to-compile`.
    pub async fn compile(&self, world: objects::Kind, component: &[u8]) -> Outcome<(Kind, Vec<u8>)> {
        let _place =
            self.places.acquire().await.map_err(|_| Fault::new(Code::Internal, "compiler is gone"))?;
        let mut worker = tokio::process::Command::new(&self.executable);
        worker
            .arg("compile-worker")
            .arg(world.as_str())
            .arg(self.plan.memories.reservation.to_string())
            .arg(self.plan.memories.guard.to_string())
            .arg(self.plan.compile_memory.to_string())
            .env_clear()
            .env("RAYON_NUM_THREADS", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A process has the priority of the thread that starts it; that of a task is the ordinary one.
        let started = tokio::spawn(async move { worker.spawn() }).await;
        let mut child = started
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(|error| Fault::io(format!("cannot start {}", self.executable.display()), &error))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Fault::new(Code::Internal, "compile worker has no pipes"));
        };
        let (mut code, mut text) = (Vec::new(), Vec::new());
        let talk = async {
            let feed = async {
                // The worker may die before it has read everything; its exit status says more than the broken pipe.
                let _ = stdin.write_all(component).await;
                drop(stdin);
            };
            let (mut stdout, mut stderr) = (stdout.take(OUTPUT_MAX), stderr.take(STDERR_MAX));
            let (_, out, _) =
                tokio::join!(feed, stdout.read_to_end(&mut code), stderr.read_to_end(&mut text));
            out?;
            child.wait().await
        };
        let status = match tokio::time::timeout(WORKER_WALL, talk).await {
            Ok(status) => status.map_err(|error| Fault::io("compile worker", &error))?,
            Err(_) => return Err(self.too_big(&format!("took longer than {} s", WORKER_WALL.as_secs()))),
        };
        let text = String::from_utf8_lossy(&text);
        match status.code() {
            Some(0) => {
                split(code).ok_or_else(|| Fault::new(Code::Internal, "the compile worker named no engine"))
            }
            Some(EXIT_INVALID) => Err(serde_json::from_str(&text)
                .unwrap_or_else(|_| Fault::new(Code::Internal, "the compile worker did not say why"))),
            Some(EXIT_PANIC) => {
                let why = text.lines().nth(1).unwrap_or_default();
                let what = format!("the compiler broke down over this component: {}", log::clean(why));
                Err(Fault::new(Code::BadComponent, what))
            }
            _ => Err(self.too_big(&format!("compiler ended with {status}"))),
        }
    }

    fn too_big(&self, what: &str) -> Fault {
        let what = format!("component cannot be compiled within the limits: {what}");
        Fault::new(Code::TooBigToCompile, what).fix(format!(
            "the worker has {} MiB of memory and {WORKER_CPU_S} s of processor time; `midplane doctor` says why",
            self.plan.compile_memory >> 20
        ))
    }
}

/// What a worker writes: the engine's name on a line of its own, and the code.
fn split(mut output: Vec<u8>) -> Option<(Kind, Vec<u8>)> {
    let end = output.iter().take(NAME_MAX).position(|byte| *byte == b'\n')?;
    let code = output.split_off(end + 1);
    let name = std::str::from_utf8(output.get(..end)?).ok()?;
    Some((Kind::parse(name)?, code))
}

/// The body of `midplane compile-worker KIND RESERVATION GUARD MEMORY`: component on standard input, engine and native code on
/// standard output. Returns the exit code.
pub fn worker(kind: &str, reservation: u64, guard: u64, memory: u64) -> i32 {
    match run_worker(kind, reservation, guard, memory) {
        Ok(()) => 0,
        Err(WorkerError::Invalid(fault)) => {
            eprintln!("{}", serde_json::to_string(&fault).unwrap_or_default());
            EXIT_INVALID
        }
        Err(WorkerError::Io(error)) => {
            eprintln!("{error}");
            1
        }
    }
}

enum WorkerError {
    Invalid(Fault),
    Io(std::io::Error),
}

impl From<std::io::Error> for WorkerError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn run_worker(kind: &str, reservation: u64, guard: u64, memory: u64) -> Result<(), WorkerError> {
    let limit = |resource, value: u64| {
        // Nobody may raise a limit that was set for them.
        let value = value.min(getrlimit(resource).maximum.unwrap_or(u64::MAX));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .map_err(std::io::Error::from)
    };
    limit(Resource::As, memory)?;
    limit(Resource::Cpu, WORKER_CPU_S)?;
    limit(Resource::Nofile, 16)?;
    limit(Resource::Core, 0)?;
    rustix::thread::set_no_new_privs(true).map_err(std::io::Error::from)?;
    let world = objects::Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    let invalid = |what: String| WorkerError::Invalid(Fault::new(Code::BadComponent, log::clean(&what)));
    let world = world.ok_or_else(|| invalid(format!("no kind {kind:?}")))?;
    let mut component = Vec::new();
    std::io::stdin().lock().take(COMPONENT_MAX + 1).read_to_end(&mut component)?;
    if component.len() as u64 > COMPONENT_MAX {
        return Err(invalid(format!("larger than {} MiB", COMPONENT_MAX >> 20)));
    }
    let kind = preflight::engine_for(world, &component).map_err(WorkerError::Invalid)?;
    let memories = Memories { reservation, guard };
    let engine = engine::compiler(kind, memories).map_err(|error| invalid(format!("{error:#}")))?;
    let code = engine.precompile_component(&component).map_err(|error| invalid(format!("{error:#}")))?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", kind.as_str())?;
    stdout.write_all(&code)?;
    stdout.flush()?;
    Ok(())
}
