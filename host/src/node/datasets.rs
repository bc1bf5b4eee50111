//! Datasets as users see them: entries read and written, and who watches them.
//!
//! Reads come from the node's own table. A write is a wish that the dataset's sync policy is asked to fulfil; whoever wished waits until
//! the policy accepts it, which it can say only after what it did is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, oneshot};

use super::answer::{ITEM_MAX, Reader, Writer};
use super::control::{REPORT_MAX, item, report};
use super::{Node, NodeInner};
use crate::clock;
use crate::policy::slot::Slot;
use crate::policy::sync::{Ask, Event, Place, Sync, Wish};
use crate::store::entries::Entries;
use crate::words::dataset::{Change, DatasetReport, DatasetRequest, Found, check_key, check_value};
use crate::words::id::clip;
use crate::words::{Code, Fault, Outcome, note};

/// Wishes that may wait for their policies at a time: what as many connections of the control socket can ask, a few times over.
const ASKS_MOST: usize = 256;
/// Changes that a watcher may be behind. With values of 32 KiB that is 8 MiB for all watchers together.
const CHANGES: usize = 256;
/// Keys in one item of a list: at most a quarter of the largest report.
const LIST_PIECE: usize = 512;
/// Longest time that a wish may wait.
const WISH_MOST_MS: u64 = 3_600_000;

/// The node's datasets.
pub struct Datasets {
    /// The table.
    pub entries: Entries,
    asks: Mutex<Asks>,
    changes: broadcast::Sender<Arc<Change>>,
    conflicts: Mutex<BTreeMap<String, u64>>,
}

#[derive(Default)]
struct Asks {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    slot: String,
    answer: oneshot::Sender<Outcome<()>>,
}

/// A wish that waits. Dropping it forgets it.
struct Asked<'a> {
    datasets: &'a Datasets,
    id: u64,
    answer: oneshot::Receiver<Outcome<()>>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.datasets.lock_asks().waiting.remove(&self.id);
    }
}

impl Datasets {
    /// Over a table.
    pub fn new(entries: Entries) -> Self {
        let changes = broadcast::channel(CHANGES).0;
        Self { entries, asks: Mutex::default(), changes, conflicts: Mutex::default() }
    }

    /// The policy's answer to a wish. Whoever wished may be gone.
    pub fn answered(&self, id: u64, answer: Outcome<()>) {
        if let Some(waiting) = self.lock_asks().waiting.remove(&id) {
            let _ = waiting.answer.send(answer);
        }
    }

    /// The slot's instance has ended, and with it everything that it was asked.
    pub fn ended(&self, slot: &str, fault: &Fault) {
        let ended: Vec<u64> = {
            let asks = self.lock_asks();
            asks.waiting.iter().filter(|(_, waiting)| waiting.slot == slot).map(|(id, _)| *id).collect()
        };
        // What could not be written was not written; of everything else that is not known.
        let (code, after) = match fault.code {
            Code::StorageFull => (Code::StorageFull, ""),
            _ => (Code::Busy, "; whether the entry was kept is not known"),
        };
        for id in ended {
            let what = format!("{slot} ended before it answered: {fault}{after}");
            let fix = fault
                .fix
                .clone()
                .unwrap_or_else(|| "look with `midplane dataset get`, then try again".into());
            self.answered(id, Err(Fault::new(code, what).fix(fix)));
        }
    }

    /// Tells watchers how readers see this place now.
    pub fn changed(&self, dataset: String, key: String) -> Outcome<()> {
        if self.changes.receiver_count() > 0 {
            let value = self.entries.row(&dataset, &key)?.and_then(|row| row.value);
            let value = value.map(serde_bytes::ByteBuf::from);
            // The last watcher may have gone in between.
            let _ = self.changes.send(Arc::new(Change { dataset, key, value }));
        }
        Ok(())
    }

    /// Counts a value that was lost to another one.
    pub fn lost(&self, dataset: &str) {
        let mut conflicts = self.conflicts.lock().unwrap_or_else(PoisonError::into_inner);
        *conflicts.entry(dataset.to_owned()).or_default() += 1;
    }

    /// One dataset, counted.
    pub fn report(&self, slot: &str, dataset: &str) -> DatasetReport {
        let tally = self.entries.tally(dataset);
        let conflicts = self.conflicts.lock().unwrap_or_else(PoisonError::into_inner);
        DatasetReport {
            dataset: dataset.to_owned(),
            slot: slot.to_owned(),
            entries: tally.entries,
            bytes: tally.values,
            removed: tally.removed,
            conflicts: conflicts.get(dataset).copied().unwrap_or(0),
        }
    }

    fn ask(&self, slot: &str) -> Outcome<Asked<'_>> {
        let mut asks = self.lock_asks();
        if asks.waiting.len() >= ASKS_MOST {
            return Err(Fault::new(
                Code::Busy,
                format!("{ASKS_MOST} writes wait for their policies already"),
            )
            .fix("try again; `midplane plugins` shows what the sync policy does"));
        }
        asks.last += 1;
        let (sender, answer) = oneshot::channel();
        let id = asks.last;
        asks.waiting.insert(id, Waiting { slot: slot.to_owned(), answer: sender });
        Ok(Asked { datasets: self, id, answer })
    }

    fn lock_asks(&self) -> std::sync::MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeInner {
    /// Has a wish fulfilled. When this returns without a fault, the entry is as it was wished and durable on this node, or another
    /// node's later wish has replaced it.
    ///
    /// # Errors
    /// `not-found` for a dataset that is not declared or an entry to be removed that is not there, `usage`, `too-large`,
    /// `not-allowed` with the reason of the policy, `busy`, `deadline`, `storage-full`.
    pub async fn wish(&self, dataset: &str, key: &str, wish: Wish, timeout_ms: u64) -> Outcome<()> {
        self.check_running()?;
        let (name, slot) = self.sync_slot(dataset)?;
        check_key(key)?;
        match &wish {
            Wish::Put(value) => check_value(value)?,
            Wish::Remove => drop(self.entry(dataset, key)?),
        }
        if !slot.health().running {
            let what = format!("{name} is being restarted, and nothing can be written until then");
            return Err(Fault::new(Code::Busy, what).fix("`midplane plugins` says why it ended"));
        }
        let mut asked = self.datasets.ask(&name)?;
        let place = Place { dataset: dataset.to_owned(), key: key.to_owned() };
        slot.tell(Event::Asked(Ask { id: asked.id, place, wish })).await?;
        let deadline = clock::deadline_in(timeout_ms.min(WISH_MOST_MS));
        match tokio::time::timeout_at(deadline, &mut asked.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Fault::new(Code::NotRunning, "the node is stopping")),
            Err(_) => Err(Fault::new(
                Code::Deadline,
                format!("{name} has not answered in time; whether the entry was kept is not known"),
            )
            .fix("--timeout gives more time")),
        }
    }

    /// The value of an entry, as this node knows it.
    ///
    /// # Errors
    /// `not-found`, `usage`, `io`.
    pub fn entry(&self, dataset: &str, key: &str) -> Outcome<Vec<u8>> {
        self.sync_slot(dataset)?;
        check_key(key)?;
        let row = self.datasets.entries.row(dataset, key)?;
        row.and_then(|row| row.value).ok_or_else(|| {
            Fault::new(Code::NotFound, format!("{key} is not in dataset {dataset} on this node"))
                .fix(format!("`midplane dataset ls {dataset}` lists its keys"))
        })
    }

    /// The datasets that this node syncs.
    pub fn dataset_reports(&self) -> Vec<DatasetReport> {
        let generation = self.generation.load();
        generation.datasets.iter().map(|(dataset, (slot, _))| self.datasets.report(slot, dataset)).collect()
    }

    /// The sync policy of a dataset, with the name of its slot.
    fn sync_slot(&self, dataset: &str) -> Outcome<(String, Slot<Sync>)> {
        let generation = self.generation.load();
        if let Some(found) = generation.datasets.get(dataset) {
            return Ok(found.clone());
        }
        let shown = clip(dataset);
        if generation.datasets.is_empty() {
            return Err(Fault::new(
                Code::NotFound,
                format!("dataset {shown:?} is not here: no sync plugin runs on this node"),
            )
            .fix("add a [[plugin]] of kind \"sync\" with `datasets` to the manifest, as manifests/datasets.toml has it"));
        }
        let known: Vec<&str> = generation.datasets.keys().map(String::as_str).collect();
        Err(Fault::new(
            Code::NotFound,
            format!("dataset {shown:?} is declared by no sync plugin of this node"),
        )
        .fix(format!("one of {}; or add it to `datasets` in the manifest", known.join(", "))))
    }
}

/// Answers what the command line asks about datasets.
pub(super) async fn answer(
    node: &Node,
    request: DatasetRequest,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Outcome<()> {
    match request {
        DatasetRequest::Put { dataset, key, timeout_ms } => {
            let value = item(reader, "a value").await?.to_vec();
            node.wish(&dataset, &key, Wish::Put(value), timeout_ms).await?;
            writer.end().await
        }
        DatasetRequest::Remove { dataset, key, timeout_ms } => {
            node.wish(&dataset, &key, Wish::Remove, timeout_ms).await?;
            writer.end().await
        }
        DatasetRequest::Get { dataset, key } => {
            report(writer, &Found { value: node.entry(&dataset, &key)? }).await
        }
        DatasetRequest::List { dataset, prefix } => list(node, &dataset, &prefix, writer).await,
        DatasetRequest::Datasets => report(writer, &node.dataset_reports()).await,
        DatasetRequest::Watch { dataset, prefix } => tokio::select! {
            biased;
            outcome = watch(node, &dataset, &prefix, writer) => outcome,
            () = reader.hung_up() => Ok(()),
        },
    }
}

async fn list(node: &Node, dataset: &str, prefix: &str, writer: &mut Writer) -> Outcome<()> {
    node.sync_slot(dataset)?;
    let mut after: Option<String> = None;
    loop {
        let listed = node.datasets.entries.list(dataset, prefix, after.as_deref(), LIST_PIECE)?;
        let Some(last) = listed.last() else { return writer.end().await };
        after = Some(last.key.clone());
        writer.item(&note::write("list", &listed, ITEM_MAX)?).await?;
    }
}

async fn watch(node: &Node, dataset: &str, prefix: &str, writer: &mut Writer) -> Outcome<()> {
    use tokio::sync::broadcast::error::RecvError;
    node.sync_slot(dataset)?;
    let mut changes = node.datasets.changes.subscribe();
    // Nothing at first: it says that from now on no change is missed.
    writer.item(&note::write("change", &Option::<Change>::None, REPORT_MAX)?).await?;
    loop {
        match changes.recv().await {
            Ok(change) if change.dataset == dataset && change.key.starts_with(prefix) => {
                writer.item(&note::write("change", &Some(&*change), REPORT_MAX)?).await?;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                return Err(Fault::new(
                    Code::Busy,
                    format!("this watcher is too slow: it lost {lost} changes"),
                )
                .fix(format!("`midplane dataset ls {dataset}`, and watch again")));
            }
            Err(RecvError::Closed) => return writer.end().await,
        }
    }
}
