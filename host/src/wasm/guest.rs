//! What the host keeps for one instance of a workload: its limits, and the state of its imports.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::ResourceTable;
use wasmtime::{CallHook, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::WasiCtx;

use crate::clock::{self, Instant};
use crate::log::{self, Level, Log};
use crate::words::objects::{Grants, Limits};

/// Handles that a guest may hold at a time.
const HANDLES_MOST: usize = 1_000;
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
    /// Its rights.
    pub grants: Grants,
    /// Where its lines go.
    pub log: Log,
    /// What `midplane:host/node` answers.
    pub node: Arc<NodeFacts>,
}

/// What a plugin may read about its node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Identity in text.
    pub id: String,
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
}

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

/// Data of one store.
pub struct Guest {
    /// The plugin that this is an instance of.
    pub plugin: Arc<Plugin>,
    /// Its last log lines.
    pub last_lines: LastLines,
    pub(crate) table: ResourceTable,
    /// Made when the guest first asks for something of WASI: most calls of most skills never do.
    pub(crate) wasi: Option<WasiCtx>,
    deadline: Instant,
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
        let guest = Guest {
            plugin,
            last_lines: LastLines::default(),
            table,
            wasi: None,
            deadline: clock::monotonic(),
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
            if clock::monotonic() >= guest.deadline {
                return Err(Ended::Deadline(guest.budget_ms).into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        if counts_calls {
            store.call_hook(count_host_call);
        }
        store
    }

    /// Prepares the store for one call.
    pub fn begin(store: &mut Store<Guest>, deadline: Instant) {
        let guest = store.data_mut();
        guest.deadline = deadline;
        // Up to the next whole one: a moment of it has already passed.
        guest.budget_ms = clock::left_ms(deadline).saturating_add(1);
        guest.host_calls = 0;
        guest.host_bytes = 0;
        store.set_epoch_deadline(1);
    }

    /// Counts bytes that a host call takes from or gives to the guest.
    pub fn spend_bytes(&mut self, bytes: usize) -> Result<(), Ended> {
        self.host_bytes = self.host_bytes.saturating_add(bytes as u64);
        if self.host_bytes > self.plugin.limits.host_bytes {
            return Err(Ended::HostBytes(self.plugin.limits.host_bytes));
        }
        Ok(())
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
