//! Compiling, in a child process that may die of it.
//!
//! Wasmtime does not count denial of service while compiling as a vulnerability: 1.4 MB of empty functions take 10 s
//! and 1.25 GB. So the same binary runs as `compile-worker`, limits itself before it reads a byte, and a component that
//! explodes the compiler kills only that child.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::engine::{self, Kind};
use crate::decisions::sizing::PoolPlan;
use crate::words::{Code, Fault, Outcome};

/// Largest component. A JavaScript or Python one with its runtime has 12 to 18 MB.
pub const COMPONENT_MAX: u64 = 64 << 20;
/// Address space of the worker: an 18 MB component needs 390 MB.
const WORKER_MEMORY: u64 = 1 << 30;
/// Processor time of the worker: an 18 MB component needs 10 s on two cores.
const WORKER_CPU_S: u64 = 60;
/// Wall-clock time after which the worker is killed.
const WORKER_WALL: Duration = Duration::from_secs(120);
/// Native code is larger than wasm, by less than this factor for anything real.
const OUTPUT_MAX: u64 = COMPONENT_MAX * 8;
/// Workers at a time; each may use all processors.
const WORKERS: usize = 2;
/// Bytes of the worker's error text that are kept.
const STDERR_MAX: u64 = 16 << 10;
/// The worker's exit code for a component that is invalid; its standard error says why.
const EXIT_INVALID: i32 = 65;

/// Runs workers.
#[derive(Clone)]
pub struct Compiler {
    executable: PathBuf,
    plan: PoolPlan,
    places: Arc<Semaphore>,
}

impl Compiler {
    /// `executable` is the `midplane` binary; `plan` is that of the engines which will run the code.
    pub fn new(executable: PathBuf, plan: PoolPlan) -> Self {
        Self { executable, plan, places: Arc::new(Semaphore::new(WORKERS)) }
    }

    /// Compiles a component for an engine and returns native code.
    pub async fn compile(&self, kind: Kind, component: &[u8]) -> Outcome<Vec<u8>> {
        let _place =
            self.places.acquire().await.map_err(|_| Fault::new(Code::Internal, "compiler is gone"))?;
        let mut child = tokio::process::Command::new(&self.executable)
            .arg("compile-worker")
            .arg(kind.as_str())
            .arg(self.plan.memory_reservation.to_string())
            .arg(self.plan.memory_guard.to_string())
            .env_clear()
            .env("RAYON_NUM_THREADS", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
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
            Err(_) => return Err(too_big(format!("took longer than {} s", WORKER_WALL.as_secs()))),
        };
        let text = String::from_utf8_lossy(&text);
        match status.code() {
            Some(0) => Ok(code),
            Some(EXIT_INVALID) => Err(Fault::new(Code::BadComponent, text.trim().to_owned())),
            _ => Err(too_big(format!("compiler ended with {status}"))),
        }
    }
}

fn too_big(what: String) -> Fault {
    Fault::new(Code::TooBigToCompile, format!("component cannot be compiled within the limits: {what}")).fix(
        format!(
            "the worker has {} MiB of memory and {WORKER_CPU_S} s of processor time",
            WORKER_MEMORY >> 20
        ),
    )
}

/// The body of `midplane compile-worker KIND RESERVATION GUARD`: component on standard input, native code on standard
/// output. Returns the exit code.
pub fn worker(kind: &str, reservation: u64, guard: u64) -> i32 {
    match run_worker(kind, reservation, guard) {
        Ok(()) => 0,
        Err(WorkerError::Invalid(text)) => {
            eprintln!("{text}");
            EXIT_INVALID
        }
        Err(WorkerError::Io(error)) => {
            eprintln!("{error}");
            1
        }
    }
}

enum WorkerError {
    Invalid(String),
    Io(std::io::Error),
}

impl From<std::io::Error> for WorkerError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn run_worker(kind: &str, memory_reservation: u64, memory_guard: u64) -> Result<(), WorkerError> {
    let limit = |resource, value| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .map_err(std::io::Error::from)
    };
    limit(Resource::As, WORKER_MEMORY)?;
    limit(Resource::Cpu, WORKER_CPU_S)?;
    limit(Resource::Nofile, 16)?;
    limit(Resource::Core, 0)?;
    rustix::thread::set_no_new_privs(true).map_err(std::io::Error::from)?;
    let kind = Kind::parse(kind).ok_or_else(|| WorkerError::Invalid(format!("no engine {kind:?}")))?;
    let mut component = Vec::new();
    std::io::stdin().lock().take(COMPONENT_MAX + 1).read_to_end(&mut component)?;
    if component.len() as u64 > COMPONENT_MAX {
        return Err(WorkerError::Invalid(format!("larger than {} MiB", COMPONENT_MAX >> 20)));
    }
    let plan = PoolPlan { instances: 0, memory_reservation, memory_guard, reasons: Vec::new() };
    let invalid = |error: wasmtime::Error| WorkerError::Invalid(format!("{error:#}"));
    let engine = engine::compiler(kind, &plan).map_err(invalid)?;
    let code = engine.precompile_component(&component).map_err(invalid)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code)?;
    stdout.flush()?;
    Ok(())
}
