//! What the host keeps for one instance of a workload: its limits, and the state of its imports.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cap_std::fs::Dir;
use wasmtime::component::ResourceTable;
use wasmtime::{CallHook, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi_config::WasiConfigVariables;

use super::outward::Outward;
use crate::clock::{self, Instant};
use crate::decisions::rights::Rights;
use crate::interface::host::blobs::Shelf;
use crate::interface::http::Http;
use crate::log::{self, Level, Log};
use crate::store::state;
use crate::words::objects::{Bindings, DirGrant, Grants, Limits};
use crate::words::{Fault, NodeId};

/// Handles that a guest may hold at a time.
const HANDLES_MOST: usize = 1_000;
/// Handles that the guest's own tables may hold at a time: resources that it made itself, borrows, streams, tasks. They are the host's
/// memory, up to some hundred bytes each, and no host call counts them.
pub(crate) const OWN_HANDLES_MOST: usize = 10_000;
/// What one host call or one answer may make the host lift out of guest memory, in bytes of wasmtime's own measure, which
/// is about 32 for a byte of a `list<u8>`: an answer of 1 MiB, the most that goes over a link, has to fit.
const HOSTCALL_FUEL: usize = 64 << 20;
/// Table elements over all tables of an instance.
const TABLE_ELEMENTS: usize = 10_000;
/// Log lines that a trap report shows.
const LAST_LINES: usize = 8;

/// What all instances of a plugin share.
pub struct Plugin {
    /// Slot of the plugin.
    pub slot: String,
    /// Digest of its component, in hex.
    pub digest: String,
    /// Its limits.
    pub limits: Limits,
    /// How long calls in flight may go on once another version has the slot.
    pub drain_ms: u64,
    /// Its rights.
    pub grants: Grants,
    /// Which names satisfy its imports.
    pub bindings: Bindings,
    /// Where its lines go.
    pub log: Log,
    /// What `midplane:host/node` answers.
    pub node: Arc<NodeFacts>,
    /// What else it may ask the node for.
    pub outward: Arc<dyn Outward>,
    /// What it was given.
    pub given: Given,
}

/// What fills the interfaces of one plugin on this node.
#[derive(Default)]
pub struct Given {
    /// What `wasi:config` answers.
    pub config: WasiConfigVariables,
    /// What `wasi:filesystem` shows; the node has allowed it.
    pub dirs: Vec<GivenDir>,
    /// Whom requests over TLS trust; none for the public authorities only.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Where `wasi:keyvalue` keeps.
    pub store: Option<Arc<state::Store>>,
    /// What `midplane:host/blobs` works on.
    pub blobs: Option<Shelf>,
}

/// A directory that a plugin sees.
pub struct GivenDir {
    /// What the manifest says of it.
    pub grant: DirGrant,
    /// The directory itself.
    pub dir: Arc<Dir>,
}

/// What a plugin may read about its node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Identity.
    pub id: NodeId,
    /// Label.
    pub label: String,
    /// Tags.
    pub tags: Vec<String>,
}

/// Why the host ended a guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The deadline of the call.
    #[error("the deadline of {0} ms")]
    Deadline(u64),
    /// All memories and tables of the instance together.
    #[error("limits.memory = {limit} bytes; it asked for {asked}")]
    Memory {
        /// Bytes that it would have had.
        asked: usize,
        /// The limit.
        limit: u64,
    },
    /// Elements of all tables together.
    #[error("{0} table elements")]
    Table(usize),
    /// Host calls within one call.
    #[error("limits.host-calls = {0}")]
    HostCalls(u64),
    /// Bytes that went through host calls within one call.
    #[error("limits.host-bytes = {0}")]
    HostBytes(u64),
    /// Another version has the slot, and the call was not done within the time to drain.
    #[error("drain = {0} ms")]
    Replaced(u64),
}

/// Why a guest was ended that nothing is wrong with: a call that satisfies one of its imports came to no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BindingFailed(pub Fault);

/// The last lines that a guest said, for its trap report.
#[derive(Clone, Default)]
pub struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Adds a line and forgets the oldest.
    pub fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(log::clean(line));
    }

    /// The lines, oldest first.
    pub fn take(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// The terms of one call.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// When it came.
    pub now: Instant,
    /// When it ends at the latest.
    pub deadline: Instant,
    /// On whose behalf it is.
    pub rights: Rights,
}

impl Terms {
    /// Those of code that nobody called.
    pub fn nobody(time: Duration, node: NodeId) -> Self {
        let now = clock::monotonic();
        Self { now, deadline: now + time, rights: Rights::none(node) }
    }
}

/// Data of one store.
pub struct Guest {
    /// The plugin that this is an instance of.
    pub plugin: Arc<Plugin>,
    /// Its last log lines.
    pub last_lines: LastLines,
    pub(crate) table: ResourceTable,
    /// Made when the guest first asks for something of WASI: most calls of most skills never do.
    pub(crate) wasi: Option<WasiCtx>,
    pub(crate) http: Http,
    terms: Terms,
    budget_ms: u64,
    memory: usize,
    elements: usize,
    host_calls: u64,
    host_bytes: u64,
}

impl Guest {
    /// A store with all limits in place. `counts_calls` is false for components without imports.
    pub fn store(engine: &wasmtime::Engine, plugin: Arc<Plugin>, counts_calls: bool) -> Store<Guest> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MOST);
        let terms = Terms::nobody(Duration::ZERO, plugin.node.id);
        let guest = Guest {
            http: Http::new(plugin.clone()),
            plugin,
            last_lines: LastLines::default(),
            table,
            wasi: None,
            terms,
            budget_ms: 0,
            memory: 0,
            elements: 0,
            host_calls: 0,
            host_bytes: 0,
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            let guest = store.data();
            if clock::monotonic() >= guest.terms.deadline {
                return Err(guest.deadline().into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_max_component_handles(OWN_HANDLES_MOST);
        if counts_calls {
            store.call_hook(count_host_call);
        }
        store
    }

    /// Prepares the store for one call.
    pub fn begin(store: &mut Store<Guest>, terms: Terms) {
        let guest = store.data_mut();
        guest.terms = terms;
        // Up to the next whole one: a moment of it may have passed.
        let budget = terms.deadline.saturating_duration_since(terms.now).as_nanos().div_ceil(1_000_000);
        guest.budget_ms = u64::try_from(budget).unwrap_or(u64::MAX);
        guest.host_calls = 0;
        guest.host_bytes = 0;
        store.set_epoch_deadline(1);
    }

    /// When the call that it serves ends, and on whose behalf it is.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// That the time for its call is over.
    pub fn deadline(&self) -> Ended {
        Ended::Deadline(self.budget_ms)
    }

    /// Counts bytes that a host call takes from or gives to the guest.
    pub fn spend_bytes(&mut self, bytes: usize) -> Result<(), Ended> {
        self.host_bytes = self.host_bytes.saturating_add(bytes as u64);
        if self.host_bytes > self.plugin.limits.host_bytes {
            return Err(Ended::HostBytes(self.plugin.limits.host_bytes));
        }
        Ok(())
    }

    /// Bytes that are left to it in this call.
    pub fn bytes_left(&self) -> u64 {
        self.plugin.limits.host_bytes.saturating_sub(self.host_bytes)
    }

    /// Writes a line to the log and remembers it for a trap report.
    pub fn say(&self, level: Level, text: &str) {
        self.last_lines.push(text);
        self.plugin.log.plugin(&self.plugin.slot, level, text);
    }
}

fn count_host_call(mut store: StoreContextMut<'_, Guest>, hook: CallHook) -> wasmtime::Result<()> {
    if matches!(hook, CallHook::CallingHost) {
        let guest = store.data_mut();
        guest.host_calls += 1;
        if guest.host_calls > guest.plugin.limits.host_calls {
            return Err(Ended::HostCalls(guest.plugin.limits.host_calls).into());
        }
    }
    Ok(())
}

impl ResourceLimiter for Guest {
    /// Counts all memories together and ends the guest at the limit: refusing the growth instead would surface as an
    /// `unreachable` somewhere in its allocator.
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.memory.saturating_add(desired.saturating_sub(current));
        if asked as u64 > self.plugin.limits.memory {
            return Err(Ended::Memory { asked, limit: self.plugin.limits.memory }.into());
        }
        self.memory = asked;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let asked = self.elements.saturating_add(desired.saturating_sub(current));
        if asked > TABLE_ELEMENTS {
            return Err(Ended::Table(TABLE_ELEMENTS).into());
        }
        self.elements = asked;
        Ok(true)
    }
}
