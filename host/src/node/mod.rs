//! The node: the loop that joins transport, storage, engines and policies.
//!
//! State and its owners:
//!
//! - `link_loop` owns the table of links; everybody else reads the snapshot in [`links`].
//! - each policy slot's thread owns its instance ([`crate::policy::slot`]).
//! - [`generation`] publishes what runs by one pointer.
//! - [`plans`] and [`claims`] are tables behind short locks, never held across an await.
//!
//! Shutdown, in this order: stop accepting control requests and links → stop dialling → save and stop the policies →
//! close the links with a reason → wait for their tasks. Calls in flight end with `link-lost` or `cancelled` at their callers.

pub mod call;
pub mod channel;
pub mod claims;
pub mod control;
pub mod dial;
pub mod effects;
pub mod fetch;
pub mod generation;
pub mod greet;
mod link_loop;
pub mod links;
mod peering;
pub mod plans;
pub mod report;
pub mod serve;
pub mod slots;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::decisions::update::{self, Trusted};
use crate::log::{Level, Log};
use crate::net::Endpoint;
use crate::policy::discovery;
use crate::store::blobs::Blobs;
use crate::store::directory::{self, Directory, Lock};
use crate::store::keys;
use crate::store::state::Store;
use crate::store::trust::{TrustFiles, TrustState};
use crate::wasm::cache::Cache;
use crate::wasm::compile::Compiler;
use crate::wasm::engine::{self, Engines};
use crate::wasm::guest::NodeFacts;
use crate::words::objects::Membership;
use crate::words::{Code, Fault, NodeId, Outcome};

use claims::Claims;
use generation::Generation;
use links::{LinkEvent, Links};
use plans::Plans;

/// The port of nodes: M-I-D-P on a telephone keypad.
pub const DEFAULT_PORT: u16 = 6437;
/// Events that wait for the link loop.
const LINK_EVENTS: usize = 1_024;

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
    /// The `midplane` binary, for the compile worker.
    pub executable: PathBuf,
}

/// What is true for the life of the process.
pub struct Identity {
    /// The node.
    pub id: NodeId,
    /// Its key.
    pub key: SigningKey,
    /// Its label.
    pub label: String,
    /// Its membership.
    pub membership: Membership,
    /// The same, signed.
    pub membership_signed: Vec<u8>,
    /// The mesh and its root.
    pub trusted: Trusted,
    /// Counts the starts of this node.
    pub boot: u64,
    /// Tells two machines with one key apart.
    pub random: u64,
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
    pub blobs: Blobs,
    /// State that survives a restart.
    pub store: Arc<Store>,
    /// Trust files; changed only while applying.
    pub trust: tokio::sync::Mutex<TrustState>,
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
    /// Why the last generation did not come back, if it did not.
    pub restore_fault: OnceLock<Fault>,
    /// Becomes true when the node is to stop.
    pub stopping: watch::Receiver<bool>,
}

/// A node that was started, and the means to stop it.
pub struct Running {
    /// The node.
    pub node: Node,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<()>,
    _lock: Lock,
}

impl Running {
    /// Starts a node on its directory: opens everything, brings the last generation back, and listens.
    pub async fn start(config: Config) -> Outcome<Self> {
        config.directory.require_initialised()?;
        // Others may not even enter: a key that is 0600 does not protect the files beside it.
        directory::prepare(&config.directory)?;
        let lock = config.directory.lock("midplane run")?;
        let key = keys::load(&config.directory.node_key())?;
        let store = Arc::new(Store::open(&config.directory.state())?);
        let trust_files = TrustFiles::new(config.directory.clone(), &key);
        let trust = trust_files.load()?;
        let identity = identity(&config.directory, key, &trust, &store)?;
        let socket = control::bind(&config.directory)?;
        let endpoint = bind(&config, &identity, &store)?;
        let engines = Engines::new(engine::machine())?;
        let compiler = Compiler::new(config.executable.clone(), engines.plan().clone());
        let cache = Cache::open(config.directory.cache(), identity.key.as_bytes(), compiler)?;
        let (events, receiver) = mpsc::channel(LINK_EVENTS);
        let (stop, stopping) = watch::channel(false);
        let facts = Arc::new(NodeFacts {
            id: identity.id.to_string(),
            label: identity.label.clone(),
            tags: identity.membership.tags.clone(),
        });
        let node = Arc::new(NodeInner {
            engines,
            cache,
            blobs: Blobs::open(&config.directory.blobs())?,
            store,
            trust: tokio::sync::Mutex::new(trust),
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
            restore_fault: OnceLock::new(),
            stopping,
            identity,
        });
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(link_loop::run(node.clone(), receiver));
        tasks.spawn(greet::accept(node.clone()));
        tasks.spawn(slots::renew_claims(node.clone()));
        if let Err(fault) = generation::restore(&node).await {
            // The node goes on with nothing, so that the operator can reach it and apply a manifest again.
            node.log.host(Level::Error, &format!("the last generation could not be brought back: {fault}"));
            let _ = node.restore_fault.set(fault);
        }
        tasks.spawn(control::serve(node.clone(), socket));
        Ok(Self { node, stop, tasks, _lock: lock })
    }

    /// Stops the node in order. Takes some seconds at most.
    pub async fn stop(mut self) {
        self.node.log.host(Level::Info, "stopping");
        let _ = self.stop.send(true);
        self.node.dials.clear();
        self.node.generation.load_full().stop().await;
        self.node.endpoint.close(Code::LinkLost, "the node stops").await;
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
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

impl NodeInner {
    /// Tells a discovery slot something.
    pub async fn tell_discovery(&self, slot: &str, event: discovery::Event) {
        let generation = self.generation.load_full();
        let runs = generation.plugins.get(slot).map(|installed| installed.runs.clone());
        if let Some(generation::Runs::Policy(slots::AnySlot::Discovery(slot))) = runs {
            slots::report(self, slot.tell(event).await);
        }
    }
}

fn identity(directory: &Directory, key: SigningKey, trust: &TrustState, store: &Store) -> Outcome<Identity> {
    let id = crate::decisions::cose::node_id(&key);
    let no_mesh = || {
        Fault::new(Code::NotFound, format!("node {} belongs to no mesh", id.short()))
            .fix("`midplane join FILE` with the file that `midplane peer admit NODE-ID` writes on the owner's machine")
    };
    let roots: Vec<&[u8]> = trust.roots.iter().map(|root| root.as_slice()).collect();
    if roots.is_empty() {
        return Err(no_mesh());
    }
    let trusted = update::restore_roots(&roots)?;
    let signed = trust.membership.clone().ok_or_else(no_mesh)?.into_vec();
    let membership = update::restore_membership(&trusted, &signed, &id)?;
    let label = crate::store::files::read_limited(&directory.label(), 256)?
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map_or_else(|| id.short(), |label| label.trim().to_owned());
    let boot = store.number("boot")?.unwrap_or(0) + 1;
    store.set_number("boot", boot)?;
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
    let random = u64::from_le_bytes(random);
    Ok(Identity { id, key, label, membership, membership_signed: signed, trusted, boot, random })
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
    store.set_number("port", u64::from(endpoint.local_addr()?.port()))?;
    Ok(endpoint)
}
