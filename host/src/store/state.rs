//! What a node remembers between two runs: counters, the states of its policies, and, in [`super::entries`], its entries.
//!
//! One redb file. What decides about trust is in files of its own, see [`super::trust`].

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::policy::types::State;
use crate::words::{Code, Digest, Fault, NodeId, Outcome};

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Slot and component.
type StateKey = (&'static str, &'static [u8; 32]);
/// Version of the format, bytes, and the policy's clock.
type StateValue = (&'static str, &'static [u8], u64);
const STATES: TableDefinition<'_, StateKey, StateValue> = TableDefinition::new("states");
/// States that are kept of a slot: one for each generation that is kept, to which the node may go back.
const STATES_KEPT: usize = 3;

/// Key: nonce. Value: the operator, and until when the order could come again.
const ORDERS: TableDefinition<'_, &[u8; 16], (&[u8; 32], u64)> = TableDefinition::new("orders");

/// A state that a component of a slot saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The component.
    pub component: Digest,
    /// What it saved.
    pub state: State,
    /// The time that it had seen then, Unix ms.
    pub now: u64,
}

/// The database.
pub struct Store {
    pub(super) database: Database,
}

impl Store {
    /// Opens the file. One that cannot be read is moved aside: nothing in it is decisive.
    pub fn open(path: &Path) -> Outcome<Self> {
        match create(path) {
            Ok(database) => Ok(Self { database }),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                Err(Fault::new(Code::Locked, format!("{} is open already", path.display())))
            }
            // A full disk or a missing right says nothing of what is in the file.
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(error))) if !is_damage(&error) => {
                Err(Fault::io(format!("cannot open {}", path.display()), &error))
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the state file is not readable and is moved aside");
                let aside = path.with_extension("damaged");
                std::fs::rename(path, &aside)
                    .map_err(|error| Fault::io(format!("cannot move {} aside", path.display()), &error))?;
                create(path).map(|database| Self { database }).map_err(fail)
            }
        }
    }

    /// A number that was kept under this name.
    pub fn number(&self, name: &str) -> Outcome<Option<u64>> {
        let read = self.database.begin_read().map_err(fail)?;
        match read.open_table(NUMBERS) {
            Ok(table) => Ok(table.get(name).map_err(fail)?.map(|value| value.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Keeps a number, durably.
    pub fn set_number(&self, name: &str, value: u64) -> Outcome<()> {
        self.write(|write| {
            write.open_table(NUMBERS).map_err(fail)?.insert(name, value).map_err(fail)?;
            Ok(())
        })
    }

    /// The states that components of a slot saved, the newest first.
    pub fn states(&self, slot: &str) -> Outcome<Vec<Kept>> {
        let Some(table) = self.read(STATES)? else { return Ok(Vec::new()) };
        let mut kept = Vec::new();
        for entry in table.range(of_slot(slot)).map_err(fail)? {
            let (key, value) = entry.map_err(fail)?;
            let (version, bytes, now) = value.value();
            let state = State { version: version.to_owned(), bytes: bytes.to_vec() };
            kept.push(Kept { component: Digest::from(*key.value().1), state, now });
        }
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.now));
        Ok(kept)
    }

    /// The latest time that a policy of a slot had seen when it saved its state.
    pub fn last_seen(&self, slot: &str) -> Outcome<Option<u64>> {
        let Some(table) = self.read(STATES)? else { return Ok(None) };
        let mut last = None;
        for entry in table.range(of_slot(slot)).map_err(fail)? {
            last = last.max(Some(entry.map_err(fail)?.1.value().2));
        }
        Ok(last)
    }

    /// Keeps the state of a policy, durably, and forgets that of a component which has not had the slot for long.
    pub fn keep_state(&self, slot: &str, component: &Digest, state: &State, now: u64) -> Outcome<()> {
        self.write(|write| {
            let mut table = write.open_table(STATES).map_err(fail)?;
            let value = (state.version.as_str(), state.bytes.as_slice(), now);
            table.insert((slot, component.as_bytes()), value).map_err(fail)?;
            let mut others = Vec::new();
            for entry in table.range(of_slot(slot)).map_err(fail)? {
                let (key, value) = entry.map_err(fail)?;
                if key.value().1 != component.as_bytes() {
                    others.push((value.value().2, *key.value().1));
                }
            }
            others.sort_unstable();
            others.truncate((others.len() + 1).saturating_sub(STATES_KEPT));
            for (_, other) in others {
                table.remove((slot, &other)).map_err(fail)?;
            }
            Ok(())
        })
    }

    /// Remembers an order until it expires, durably, and forgets those that have.
    pub fn keep_order(&self, by: &NodeId, nonce: &[u8; 16], expires: u64, now: u64) -> Outcome<()> {
        self.write(|write| {
            let mut table = write.open_table(ORDERS).map_err(fail)?;
            table.retain(|_, (_, until)| until > now).map_err(fail)?;
            table.insert(nonce, (by.as_bytes(), expires)).map_err(fail)?;
            Ok(())
        })
    }

    /// The orders that have not expired: operator, nonce, expiry.
    pub fn orders(&self, now: u64) -> Outcome<Vec<(NodeId, [u8; 16], u64)>> {
        let read = self.database.begin_read().map_err(fail)?;
        let table = match read.open_table(ORDERS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut orders = Vec::new();
        for entry in table.iter().map_err(fail)? {
            let (nonce, value) = entry.map_err(fail)?;
            let (by, expires) = value.value();
            if expires > now {
                orders.push((NodeId::from(*by), *nonce.value(), expires));
            }
        }
        Ok(orders)
    }

    /// A table for reading; none before the first write.
    pub(super) fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Outcome<Option<redb::ReadOnlyTable<K, V>>> {
        match self.database.begin_read().map_err(fail)?.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Changes something, durably, or nothing at all.
    pub(super) fn write(&self, change: impl FnOnce(&redb::WriteTransaction) -> Outcome<()>) -> Outcome<()> {
        let mut write = self.database.begin_write().map_err(fail)?;
        write.set_durability(Durability::Immediate).map_err(fail)?;
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        change(&write)?;
        write.commit().map_err(fail)
    }
}

fn of_slot(slot: &str) -> std::ops::RangeInclusive<(&str, &'static [u8; 32])> {
    (slot, &[0; 32])..=(slot, &[u8::MAX; 32])
}

fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Opens or makes the file, for its owner alone.
fn create(path: &Path) -> Result<Database, redb::DatabaseError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    redb::Builder::new().create_file(file)
}

pub(super) fn fail(error: impl Into<redb::Error>) -> Fault {
    match error.into() {
        redb::Error::Io(error) => Fault::io("the state file", &error),
        error => Fault::new(Code::Io, format!("the state file: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let (state, component) = (State { version: "1".into(), bytes: vec![1, 2, 3] }, Digest::of(b"c"));
        {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.number("boot").unwrap(), None);
            assert_eq!(store.states("routing").unwrap(), vec![]);
            store.set_number("boot", 7).unwrap();
            store.keep_state("routing", &component, &state, 99).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!((store.last_seen("routing").unwrap(), store.last_seen("sync").unwrap()), (Some(99), None));
        assert_eq!(store.number("boot").unwrap(), Some(7));
        assert_eq!(store.states("routing").unwrap(), vec![Kept { component, state, now: 99 }]);
    }

    #[test]
    fn the_components_before_keep_their_states_and_none_older() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state.redb")).unwrap();
        let [a, b, c, d] = [b"a", b"b", b"c", b"d"].map(|bytes| Digest::of(bytes));
        let keep = |slot: &str, component: &Digest, now: u64| {
            let state = State { version: "1".into(), bytes: now.to_be_bytes().to_vec() };
            store.keep_state(slot, component, &state, now).unwrap();
        };
        let kept = |slot: &str| {
            let kept = store.states(slot).unwrap();
            kept.into_iter().map(|kept| (kept.component, kept.now)).collect::<Vec<_>>()
        };
        keep("routing", &a, 1);
        keep("routinf", &c, 1);
        keep("routing2", &c, 1);
        keep("routing", &b, 2);
        keep("routing", &b, 3);
        assert_eq!(kept("routing"), [(b, 3), (a, 1)]);
        keep("routing", &c, 4);
        assert_eq!(kept("routing"), [(c, 4), (b, 3), (a, 1)]);
        // The one before has come back.
        keep("routing", &b, 5);
        assert_eq!(kept("routing"), [(b, 5), (c, 4), (a, 1)]);
        keep("routing", &d, 6);
        assert_eq!(kept("routing"), [(d, 6), (b, 5), (c, 4)]);
        assert_eq!((kept("routinf"), kept("routing2")), (vec![(c, 1)], vec![(c, 1)]));
    }

    #[test]
    fn a_damaged_file_is_moved_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        std::fs::write(&path, b"this is not a database, and it is long enough to look at").unwrap();
        let store = Store::open(&path).unwrap();
        store.set_number("boot", 1).unwrap();
        assert!(path.with_extension("damaged").exists());
    }
}
