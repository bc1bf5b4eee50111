//! Workloads for tests, put together as a node puts them together: the compile worker, the cache, the preflight, the pool.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use midplane::clock;
use midplane::log::Log;
use midplane::wasm::cache::Cache;
use midplane::wasm::compile::Compiler;
use midplane::wasm::engine::{self, Engines};
use midplane::wasm::guest::{NodeFacts, Plugin};
use midplane::wasm::preflight;
use midplane::wasm::workload::{Answer, Request, Workload};
use midplane::words::json::{cbor_to_json, json_to_cbor};
use midplane::words::objects::{Grants, Instances, Kind, Limits};
use midplane::words::schema::Form;
use midplane::words::{Code, Digest, Fault, Outcome};
use serde_json::Value;
use tempfile::TempDir;
use wasmtime::component::Component;

/// Limits that a hostile guest reaches soon.
pub const TIGHT: Limits =
    Limits { memory: 4 << 20, deadline_ms: 400, host_calls: 100, host_bytes: 64 << 10, concurrency: 8 };
/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The engines of this process: they reserve address space, so all tests share them.
pub fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| Engines::new(engine::machine()).unwrap())
}

/// The `midplane` program beside the tests.
pub fn program() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let program = deps.ancestors().nth(2).unwrap().join("midplane");
    assert!(program.is_file(), "{} is missing: make host", program.display());
    program
}

/// A component that `make plugins` built, for example `skill/math1`.
pub fn built(name: &str) -> Vec<u8> {
    let path = root().join("target/plugins").join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: make plugins", path.display()))
}

/// A component or module whose text is `tests/hostile/NAME.wat`.
pub fn hostile(name: &str) -> Vec<u8> {
    let path = root().join("tests/hostile").join(name).with_extension("wat");
    wat::parse_file(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A node's machinery for components, without the node.
pub struct Bench {
    /// The node's log.
    pub log: Log,
    cache: Cache,
    directory: TempDir,
}

impl Default for Bench {
    fn default() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let compiler = Compiler::new(program(), engines().plan().clone());
        let cache = Cache::open(directory.path().join("code"), b"secret", compiler).unwrap();
        Self { log: Log::default(), cache, directory }
    }
}

impl Bench {
    /// Where compiled code is kept.
    pub fn code(&self) -> PathBuf {
        self.directory.path().join("code")
    }

    /// From bytes to compiled code.
    pub async fn component(&self, kind: Kind, wasm: &[u8]) -> Outcome<(engine::Kind, Component)> {
        let kind = preflight::engine_for(kind, wasm)?;
        Ok((kind, self.cache.load(engines(), kind, Digest::of(wasm), wasm).await?))
    }

    /// From bytes to a workload that can be called: every step of a node that prepares a skill.
    pub async fn prepare(
        &self,
        slot: &str,
        wasm: &[u8],
        limits: Limits,
        instances: Instances,
    ) -> Outcome<Arc<Workload>> {
        let (kind, component) = self.component(Kind::Skill, wasm).await?;
        let digest = Digest::of(wasm);
        let exports = preflight::check_world(Kind::Skill, slot, engines().get(kind), &component)?;
        let plugin = Arc::new(Plugin {
            slot: slot.to_owned(),
            digest: digest.to_string(),
            limits,
            grants: Grants::default(),
            log: self.log.clone(),
            node: Arc::new(NodeFacts::default()),
        });
        Workload::prepare(engines().clone(), kind, &component, plugin, &instances, exports).await
    }

    /// `math1` with the usual limits.
    pub async fn neighbour(&self) -> Arc<Workload> {
        let math1 = built("skill/math1");
        self.prepare("skill/math1", &math1, Limits::default(), Instances::Fresh).await.unwrap()
    }
}

/// Calls with arguments in JSON, or as the words of a command line.
pub async fn start(
    workload: &Arc<Workload>,
    function: &str,
    form: Form,
    arguments: &[u8],
    timeout: Duration,
) -> Outcome<Answer> {
    let deadline = clock::monotonic() + timeout;
    workload.call(Request { function, form, arguments, deadline }).await
}

/// Calls and waits for one value; `null` when the function has none.
pub async fn call(workload: &Arc<Workload>, function: &str, arguments: Value) -> Outcome<Value> {
    let arguments = json_to_cbor(&arguments);
    match start(workload, function, Form::Json, &arguments, PATIENCE).await? {
        Answer::Value(bytes) if bytes.is_empty() => Ok(Value::Null),
        Answer::Value(bytes) => cbor_to_json(&bytes),
        Answer::Stream(_) => Err(Fault::new(Code::Internal, format!("{function} answers with a stream"))),
    }
}

/// The neighbour still answers.
pub async fn answers(neighbour: &Arc<Workload>) {
    assert_eq!(call(neighbour, "add", serde_json::json!([3, 4])).await.unwrap(), serde_json::json!(7));
}

/// Looks again until a condition holds; fails the test when it does not in [`PATIENCE`].
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::monotonic() + PATIENCE;
    while !holds() {
        assert!(clock::monotonic() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Resident memory of this process in bytes.
pub fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that was ever resident, since [`forget_peak`].
pub fn peak() -> u64 {
    status("VmHWM:")
}

/// Begins to measure [`peak`] anew.
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}
