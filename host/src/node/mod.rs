//! The node: the loop that joins transport, storage, engines and policies.
//!
//! State and its owners:
//!
//! - `link_loop` owns the table of links; everybody else reads the snapshot in [`links`].
//! - each policy slot's thread owns its instance ([`crate::policy::slot`]).
//! - [`generation`] publishes what runs by one pointer.
//! - [`plans`] and [`claims`] are tables behind short locks, never held across an await.
//!
//! Shutdown, in this order: stop accepting control requests and links → stop dialling → answer the HTTP requests in flight → save and stop the policies →
//! close the links with a reason → wait for their tasks. Calls in flight end with `link-lost` or `cancelled` at their callers.

pub mod answer;
pub mod background;
pub mod blobs;
pub mod call;
pub mod canary;
mod changes;
pub mod channel;
pub mod claims;
pub mod control;
pub mod datasets;
pub mod dial;
mod drain;
pub mod effects;
pub mod fetch;
pub mod gateway;
pub mod generation;
pub mod give;
pub mod given;
pub mod greet;
pub mod history;
pub mod holders;
mod identity;
pub mod journal;
mod link_loop;
pub mod links;
pub mod mesh;
pub mod orders;
pub mod outward;
pub mod pass;
mod peering;
pub mod plans;
mod prepare;
pub mod probation;
mod probe;
mod publish;
pub mod recordings;
pub mod reply;
pub mod report;
pub mod roots;
pub mod serve;
pub mod shadow;
pub mod shelves;
pub mod slots;
pub mod spread;
pub mod swap;
pub mod sync;
mod vouch;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::decisions::update::Trusted;
use crate::log::{Level, Log};
use crate::net::{Endpoint, http};
use crate::policy::discovery;
use crate::store::blobs::Blobs;
use crate::store::directory::{self, Directory, Lock};
use crate::store::entries::Entries;
use crate::store::holdings::Holdings;
use crate::store::keys;
use crate::store::reserve::Reserve;
use crate::store::state::Store;
use crate::store::trust::{TrustFiles, TrustState};
use crate::wasm::cache::Cache;
use crate::wasm::compile::Compiler;
use crate::wasm::engine::Engines;
use crate::wasm::guest::NodeFacts;
use crate::wasm::machine;
use crate::words::event::Happened;
use crate::words::{Code, Fault, Outcome};

pub use identity::Identity;

use claims::Claims;
use generation::Generation;
use links::{LinkEvent, Links};
use plans::Plans;

/// The port of nodes: M-I-D-P on a telephone keypad.
pub const DEFAULT_PORT: u16 = 6437;
/// Events that wait for the link loop.
const LINK_EVENTS: usize = 1_024;

/// How long requests in flight may take when the node stops.
const HTTP_STOP: std::time::Duration = std::time::Duration::from_secs(3);
/// How long a change may take that is being made when the node stops.
const CHANGE_STOP: std::time::Duration = std::time::Duration::from_secs(5);

/// How a node is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its directory.
    pub directory: Directory,
    /// UDP port; none for the one of last time or [`DEFAULT_PORT`], 0 for any free one.
    pub port: Option<u16>,
    /// Address to bind.
    pub bind: std::net::IpAddr,
    /// Where peers may be.
    pub hints: Vec<discovery::Hint>,
    /// Where gateways answer HTTP; nowhere when it is empty.
    pub http: Vec<std::net::SocketAddr>,
    /// What their connections may do.
    pub http_limits: http::Limits,
    /// Directories that plugins may see where the manifest grants them.
    pub open_dirs: Vec<given::Opened>,
    /// Whom plugins trust that ask others over TLS; none for the public authorities only.
    pub http_tls: Option<Arc<rustls::ClientConfig>>,
    /// The `midplane` binary, for the compile worker.
    pub executable: PathBuf,
    /// Workload instances that each pool is to hold, if the machine lets it.
    pub instances: u32,
}

/// A running node. Clones are the same node.
pub type Node = Arc<NodeInner>;

/// The node's parts, each with one owner.
pub struct NodeInner {
    /// Who it is.
    pub identity: Identity,
    /// Engines for components.
    pub engines: Engines,
    /// Compiled components.
    pub cache: Cache,
    /// Blobs.
    pub blobs: Arc<Blobs>,
    /// Which of them slots keep.
    pub holdings: Arc<Holdings>,
    /// Room for what must be written on a full disk.
    pub reserve: Reserve,
    /// Transfers of blobs.
    pub transfers: fetch::Transfers,
    /// State that survives a restart.
    pub store: Arc<Store>,
    /// Entries of datasets, and who waits for them.
    pub datasets: datasets::Datasets,
    /// The root in force.
    pub trusted: ArcSwap<Trusted>,
    /// Trust files; changed only while applying a manifest or a root.
    pub trust: tokio::sync::Mutex<TrustState>,
    /// Where what runs is changed.
    pub changes: changes::Changes,
    /// Held while blobs are taken away that slots let go of.
    pub sweeping: std::sync::Mutex<()>,
    /// Reads and writes them.
    pub trust_files: TrustFiles,
    /// The log.
    pub log: Log,
    /// What runs.
    pub generation: ArcSwap<Generation>,
    /// Links, for readers.
    pub links: Links,
    /// Kept plans.
    pub plans: Plans,
    /// Verified claims of others.
    pub claims: Claims,
    /// To the link loop.
    pub events: mpsc::Sender<LinkEvent>,
    /// What this node wants to be linked to.
    pub dials: dial::Dials,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// When it started.
    pub started: clock::Instant,
    /// Calls started here, for ids and for spreading.
    pub calls: AtomicU64,
    /// What the host tells workloads about the node.
    pub facts: Arc<NodeFacts>,
    /// Where peers may be, as this node was told from outside.
    pub hints: Vec<discovery::Hint>,
    /// Where it listens for HTTP.
    pub http: Vec<std::net::SocketAddr>,
    /// Directories that plugins may see where the manifest grants them.
    pub open_dirs: Vec<given::Opened>,
    /// Whom plugins trust that ask others over TLS; none for the public authorities only.
    pub http_tls: Option<Arc<rustls::ClientConfig>>,
    /// Why the last generation did not come back, if it did not.
    pub restore_fault: OnceLock<Fault>,
    /// What happened to it.
    pub journal: journal::Journal,
    /// What operators asked of it from elsewhere.
    pub orders: orders::Orders,
    /// What it passes on to peers, and what it has seen of others.
    pub spread: spread::Spread,
    /// When the last swap that was taken was signed, Unix ms, for readers.
    pub swap_floor: AtomicU64,
    /// Recordings of policies that go on.
    pub recordings: recordings::Recordings,
    /// The generation that has to show yet that it is good.
    pub probation: probation::Watched,
    /// What goes on by itself.
    pub background: background::Background,
    /// Becomes true when the node is to stop.
    pub stopping: watch::Receiver<bool>,
}

/// A node that was started, and the means to stop it.
pub struct Running {
    /// The node.
    pub node: Node,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
    /// Ends by itself when the node stops, once its requests are answered.
    gateways: AbortOnDropHandle<()>,
    _lock: Lock,
}

impl Running {
    /// Starts a node on its directory: opens everything, brings the last generation back, and listens.
    pub async fn start(config: Config) -> Outcome<Self> {
        config.directory.require_initialised()?;
        // Others may not even enter: a key that is 0600 does not protect the files beside it.
        directory::prepare(&config.directory)?;
        let lock = config.directory.lock("midplane run")?;
        let reserve = Reserve::new(config.directory.path());
        reserve.balance();
        let key = keys::load(&config.directory.node_key())?;
        let store = Arc::new(Store::open(&config.directory.state())?);
        let datasets = datasets::Datasets::new(Entries::open(store.clone())?);
        let trust_files = TrustFiles::new(config.directory.clone(), &key);
        let trust = trust_files.load()?;
        let (identity, trusted) = identity::read(&config.directory, key, &trust, &store)?;
        let socket = control::bind(&config.directory)?;
        let endpoint = bind(&config, &identity, &store)?;
        let listeners = http::Listeners::bind(&config.http, config.http_limits).await?;
        let engines = Engines::new(&machine::read(), config.instances)?;
        let compiler = Compiler::new(config.executable.clone(), engines.plan().clone());
        let cache =
            Cache::open(config.directory.cache(), identity.key.as_bytes(), engines.clone(), compiler)?;
        let (events, receiver) = mpsc::channel(LINK_EVENTS);
        let (stop, stopping) = watch::channel(false);
        let facts = Arc::new(NodeFacts {
            id: identity.id,
            label: identity.label.clone(),
            tags: identity.membership.tags.clone(),
        });
        let orders = orders::Orders::load(&store, clock::now_ms())?;
        let node = Arc::new(NodeInner {
            journal: journal::Journal::default(),
            orders,
            recordings: recordings::Recordings::default(),
            probation: probation::Watched::default(),
            background: background::Background::default(),
            spread: spread::Spread::load(&trust_files, trust.manifest_floor),
            swap_floor: AtomicU64::new(trust.swap_floor),
            trusted: ArcSwap::from_pointee(trusted),
            engines,
            cache,
            blobs: Blobs::open(&config.directory.blobs())?,
            holdings: Holdings::new(store.clone()),
            reserve,
            transfers: fetch::Transfers::default(),
            store,
            datasets,
            trust: tokio::sync::Mutex::new(trust),
            changes: changes::Changes::begin()?,
            sweeping: std::sync::Mutex::default(),
            trust_files,
            log: Log::default(),
            generation: ArcSwap::from_pointee(Generation::empty()),
            links: Links::default(),
            plans: Plans::default(),
            claims: Claims::default(),
            events,
            dials: dial::Dials::default(),
            endpoint,
            started: clock::monotonic(),
            calls: AtomicU64::new(0),
            facts,
            hints: config.hints,
            http: listeners.addresses().to_vec(),
            open_dirs: config.open_dirs,
            http_tls: config.http_tls,
            restore_fault: OnceLock::new(),
            stopping,
            identity,
        });
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(link_loop::run(node.clone(), receiver));
        tasks.spawn(greet::accept(node.clone()));
        tasks.spawn(slots::renew_claims(node.clone()));
        tasks.spawn(shelves::sweep_all(node.clone()));
        if let Err(fault) = generation::restore(&node).await
            && !probation::instead(&node, &fault).await
        {
            // The node goes on with nothing, so that the operator can reach it and apply a manifest again.
            node.log.host(Level::Error, &format!("the last generation could not be brought back: {fault}"));
            let _ = node.restore_fault.set(fault);
        }
        node.journal.record(Happened::Started {
            generation: node.generation.load().version,
            why: node.restore_fault.get().map(journal::why),
        });
        tasks.spawn(spread::run(node.clone()));
        tasks.spawn(vouch::run(node.clone()));
        tasks.spawn(control::serve(node.clone(), socket));
        let (served, stopping) = (node.clone(), node.stopping.clone());
        let answers = move |request| gateway::answer(served.clone(), request);
        let gateways = AbortOnDropHandle::new(tokio::spawn(listeners.serve(answers, stopping)));
        Ok(Self { node, stop, tasks, gateways, _lock: lock })
    }

    /// Stops the node in order. Takes some seconds at most.
    pub async fn stop(mut self) {
        self.node.log.host(Level::Info, "stopping");
        let _ = self.stop.send(true);
        self.node.dials.clear();
        let _ = tokio::time::timeout(HTTP_STOP, self.gateways).await;
        self.node.background.end();
        self.node.generation.load_full().stop().await;
        self.node.endpoint.close(Code::LinkLost, "the node stops").await;
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        // A change that is being made ends where it waits next.
        let _ = tokio::time::timeout(CHANGE_STOP, self.node.trust.lock()).await;
    }
}

impl NodeInner {
    /// A fault unless the node goes on.
    pub fn check_running(&self) -> Outcome<()> {
        if *self.stopping.borrow() {
            Err(Fault::new(Code::NotRunning, "the node is stopping"))
        } else {
            Ok(())
        }
    }
}

fn bind(config: &Config, identity: &Identity, store: &Store) -> Outcome<Endpoint> {
    let kept = store.number("port")?.and_then(|port| u16::try_from(port).ok());
    let port = match config.port {
        Some(0) => kept.unwrap_or(0),
        Some(port) => port,
        None => kept.unwrap_or(DEFAULT_PORT),
    };
    let endpoint = match Endpoint::bind(&identity.key, (config.bind, port).into()) {
        // `--port 0` keeps its port while it can, and takes another when it cannot.
        Err(fault) if fault.code == Code::PortInUse && config.port == Some(0) => {
            Endpoint::bind(&identity.key, (config.bind, 0).into())?
        }
        other => other?,
    };
    let bound = endpoint.local_addr()?.port();
    if kept != Some(bound) {
        store.set_number("port", u64::from(bound))?;
    }
    Ok(endpoint)
}
