//! What a node remembers between two runs but can live without: counters, the states of its policies, known memberships.
//!
//! One redb file. What decides about trust is in files of its own, see [`super::trust`].

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::policy::types::State;
use crate::words::{Code, Fault, Outcome};

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Key: slot. Value: version of the format, bytes, and the policy's clock.
const POLICIES: TableDefinition<'_, &str, (&str, &[u8], u64)> = TableDefinition::new("policies");

/// The database.
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the file. One that cannot be read is moved aside: nothing in it is decisive.
    pub fn open(path: &Path) -> Outcome<Self> {
        match Database::create(path) {
            Ok(database) => Ok(Self { database }),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                Err(Fault::new(Code::Locked, format!("{} is open already", path.display())))
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the state file is not readable and is moved aside");
                let aside = path.with_extension("damaged");
                std::fs::rename(path, &aside)
                    .map_err(|error| Fault::io(format!("cannot move {} aside", path.display()), &error))?;
                Database::create(path).map(|database| Self { database }).map_err(fail)
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

    /// The state that a policy saved last, and the time it had seen then.
    pub fn policy(&self, slot: &str) -> Outcome<Option<(State, u64)>> {
        let read = self.database.begin_read().map_err(fail)?;
        match read.open_table(POLICIES) {
            Ok(table) => Ok(table.get(slot).map_err(fail)?.map(|value| {
                let (version, bytes, now) = value.value();
                (State { version: version.to_owned(), bytes: bytes.to_vec() }, now)
            })),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Keeps the state of a policy, durably.
    pub fn set_policy(&self, slot: &str, state: &State, now: u64) -> Outcome<()> {
        self.write(|write| {
            let mut table = write.open_table(POLICIES).map_err(fail)?;
            table.insert(slot, (state.version.as_str(), state.bytes.as_slice(), now)).map_err(fail)?;
            Ok(())
        })
    }

    fn write(&self, change: impl FnOnce(&redb::WriteTransaction) -> Outcome<()>) -> Outcome<()> {
        let mut write = self.database.begin_write().map_err(fail)?;
        write.set_durability(Durability::Immediate).map_err(fail)?;
        write.set_two_phase_commit(true);
        write.set_quick_repair(true);
        change(&write)?;
        write.commit().map_err(fail)
    }
}

fn fail(error: impl Into<redb::Error>) -> Fault {
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
        let state = State { version: "1".into(), bytes: vec![1, 2, 3] };
        {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.number("boot").unwrap(), None);
            assert_eq!(store.policy("routing").unwrap(), None);
            store.set_number("boot", 7).unwrap();
            store.set_policy("routing", &state, 99).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.number("boot").unwrap(), Some(7));
        assert_eq!(store.policy("routing").unwrap(), Some((state, 99)));
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
