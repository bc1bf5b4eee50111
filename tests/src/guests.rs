//! Workloads for tests, put together as a node puts them together: the compile worker, the cache, the preflight, the pool.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use midplane::clock;
use midplane::decisions::rights::Rights;
use midplane::decisions::sizing::INSTANCES_MOST;
use midplane::log::Log;
use midplane::wasm::cache::{Cache, Compiled};
use midplane::wasm::compile::Compiler;
use midplane::wasm::engine::Engines;
use midplane::wasm::guest::{Given, NodeFacts, Plugin};
use midplane::wasm::machine;
use midplane::wasm::outward::{Nested, Outward, Peer, Pieces};
use midplane::wasm::preflight;
use midplane::wasm::workload::{Answer, Request, Workload};
use midplane::words::json::{cbor_to_json, json_to_cbor};
use midplane::words::objects::{Bindings, Grants, Instances, Kind, Limits};
use midplane::words::schema::Form;
use midplane::words::{Code, Digest, Fault, NodeId, Outcome};
use serde_json::Value;
use tempfile::TempDir;

/// Limits that a hostile guest reaches soon.
pub const TIGHT: Limits =
    Limits { memory: 4 << 20, deadline_ms: 400, host_calls: 100, host_bytes: 64 << 10, concurrency: 8 };
/// The same with time, for whoever is to end well, or by something else than its deadline.
pub const UNHURRIED: Limits = Limits { deadline_ms: 20_000, ..TIGHT };
/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

static ENGINES: OnceLock<Engines> = OnceLock::new();

/// The engines of this process: they reserve address space, so all tests share them.
pub fn engines() -> &'static Engines {
    with_engines(INSTANCES_MOST)
}

/// The same, with pools that hold so many instances if they are made here.
pub fn with_engines(instances: u32) -> &'static Engines {
    ENGINES.get_or_init(|| Engines::new(&machine::read(), instances).unwrap())
}

/// The `midplane` program beside the tests.
pub fn program() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let program = deps.ancestors().nth(2).unwrap().join("midplane");
    assert!(program.is_file(), "{} is missing: make host", program.display());
    program
}

/// The node of a [`Bench`].
pub fn nobody() -> NodeId {
    NodeId::from([0; 32])
}

/// What is around a workload of a [`Bench`]: nothing.
struct Alone;

impl Outward for Alone {
    fn call(&self, call: Nested) -> Pin<Box<dyn Future<Output = Outcome<Pieces>> + Send>> {
        let fault = Fault::new(Code::NoRoute, format!("{} is nowhere", call.name));
        Box::pin(std::future::ready(Err(fault)))
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn fetch(&self, digest: Digest) -> Pin<Box<dyn Future<Output = Outcome<()>> + Send>> {
        let fault = Fault::new(Code::BlobMissing, format!("{digest} is nowhere"));
        Box::pin(std::future::ready(Err(fault)))
    }

    fn let_go(&self, _: String, _: Digest) -> Pin<Box<dyn Future<Output = Outcome<bool>> + Send>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn sweep(&self, _: String) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
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
        let cache =
            Cache::open(directory.path().join("code"), b"secret", engines().clone(), compiler).unwrap();
        Self { log: Log::default(), cache, directory }
    }
}

impl Bench {
    /// Where compiled code is kept.
    pub fn code(&self) -> PathBuf {
        self.directory.path().join("code")
    }

    /// From bytes to compiled code.
    pub async fn component(&self, kind: Kind, wasm: &[u8]) -> Outcome<Arc<Compiled>> {
        let digest = Digest::of(wasm);
        match self.cache.find(kind, digest)? {
            Some(code) => Ok(code),
            None => self.cache.compile(kind, digest, wasm).await,
        }
    }

    /// From bytes to a workload that can be called: every step of a node that prepares a skill.
    pub async fn prepare(
        &self,
        slot: &str,
        wasm: &[u8],
        limits: Limits,
        instances: Instances,
    ) -> Outcome<Arc<Workload>> {
        let code = self.component(Kind::Skill, wasm).await?;
        self.seat(slot, &code, Digest::of(wasm), limits, instances).await
    }

    /// The second half of [`Bench::prepare`], for many slots of one component.
    pub async fn seat(
        &self,
        slot: &str,
        code: &Arc<Compiled>,
        digest: Digest,
        limits: Limits,
        instances: Instances,
    ) -> Outcome<Arc<Workload>> {
        let exports = preflight::check_world(Kind::Skill, slot, code.engine(), &code.component)?;
        let plugin = Arc::new(Plugin {
            slot: slot.to_owned(),
            digest: digest.to_string(),
            limits,
            drain_ms: midplane::words::objects::Plugin::DRAIN_MS,
            grants: Grants::default(),
            bindings: Bindings::default(),
            log: self.log.clone(),
            node: Arc::new(NodeFacts { id: nobody(), label: String::new(), tags: Vec::new() }),
            outward: Arc::new(Alone),
            given: Given::default(),
        });
        Workload::prepare(engines().clone(), code.clone(), plugin, &instances, exports).await
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
    workload.call(Request { function, form, arguments, deadline, rights: Rights::own(nobody()) }).await
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

/// Memory that is this process's alone in bytes: without the pages of the program's file, which the kernel maps and takes back as it likes.
pub fn held() -> u64 {
    status("RssAnon:") + status("RssShmem:")
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
