//! The table of entries: what datasets hold, durable before anybody is told.
//!
//! A row belongs to one dataset. Its value is what readers see; a row without one remembers that there is nothing. Each change is one
//! transaction of the state file. What is in the table is counted here, so that a full table is noticed before it is written.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::state::{Store, fail};
use crate::words::dataset::Listed;
use crate::words::{Code, Fault, Outcome};

/// What readers see, and the policy's metadata.
type Kept<'a> = (Option<&'a [u8]>, &'a [u8]);
/// Key: dataset and key.
const ENTRIES: TableDefinition<'_, (&str, &str), Kept<'_>> = TableDefinition::new("entries");

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Dataset.
    pub dataset: String,
    /// Key.
    pub key: String,
    /// What readers see.
    pub value: Option<Vec<u8>>,
    /// The policy's own.
    pub meta: Vec<u8>,
}

/// A row without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// Key.
    pub key: String,
    /// Bytes of the value.
    pub length: Option<usize>,
    /// The policy's own.
    pub meta: Vec<u8>,
}

/// What is to become of a row.
#[derive(Clone, Copy, Debug)]
pub enum RowChange<'a> {
    /// It is this.
    Put {
        /// Dataset.
        dataset: &'a str,
        /// Key.
        key: &'a str,
        /// What readers see.
        value: Option<&'a [u8]>,
        /// The policy's own.
        meta: &'a [u8],
    },
    /// There is none.
    Remove {
        /// Dataset.
        dataset: &'a str,
        /// Key.
        key: &'a str,
    },
}

/// How much some datasets may hold together.
#[derive(Clone, Copy, Debug)]
pub struct Quota<'a> {
    /// The datasets.
    pub datasets: &'a [String],
    /// Rows.
    pub rows: u64,
    /// Bytes of keys, values and metadata.
    pub bytes: u64,
}

/// What one dataset holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that readers see.
    pub entries: u64,
    /// Bytes of their values.
    pub values: u64,
    /// Rows without a value.
    pub removed: u64,
    /// Bytes of everything.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, key: &str, value: Option<&[u8]>, meta: &[u8]) {
        let length = value.map_or(0, <[u8]>::len) as u64;
        *if value.is_some() { &mut self.entries } else { &mut self.removed } += 1;
        self.values += length;
        self.bytes += length + (key.len() + meta.len()) as u64;
    }

    fn take(&mut self, key: &str, value: Option<&[u8]>, meta: &[u8]) {
        let length = value.map_or(0, <[u8]>::len) as u64;
        *if value.is_some() { &mut self.entries } else { &mut self.removed } -= 1;
        self.values -= length;
        self.bytes -= length + (key.len() + meta.len()) as u64;
    }
}

type Tallies = BTreeMap<String, Tally>;

/// The table.
pub struct Entries {
    store: Arc<Store>,
    tallies: Mutex<Tallies>,
}

impl Entries {
    /// Counts what is there.
    pub fn open(store: Arc<Store>) -> Outcome<Self> {
        let mut tallies = Tallies::new();
        let read = store.database.begin_read().map_err(fail)?;
        match read.open_table(ENTRIES) {
            Ok(table) => {
                for row in table.iter().map_err(fail)? {
                    let (place, row) = row.map_err(fail)?;
                    let ((dataset, key), (value, meta)) = (place.value(), row.value());
                    tally(&mut tallies, dataset).add(key, value, meta);
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(fail(error)),
        }
        Ok(Self { store, tallies: Mutex::new(tallies) })
    }

    /// Carries out all changes in one durable transaction, or none.
    ///
    /// # Errors
    /// `storage-full` when the quota or the disk is full, `io`.
    pub fn apply(&self, changes: &[RowChange<'_>], quota: Quota<'_>) -> Outcome<()> {
        // One dataset has one writer, so nobody waits here for long.
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = tallies.clone();
        self.store.write(|write| {
            let mut table = write.open_table(ENTRIES).map_err(fail)?;
            for change in changes {
                match *change {
                    RowChange::Put { dataset, key, value, meta } => {
                        let before = table.insert((dataset, key), (value, meta)).map_err(fail)?;
                        let tally = tally(&mut counted, dataset);
                        if let Some(before) = before {
                            let (value, meta) = before.value();
                            tally.take(key, value, meta);
                        }
                        tally.add(key, value, meta);
                    }
                    RowChange::Remove { dataset, key } => {
                        if let Some(before) = table.remove((dataset, key)).map_err(fail)? {
                            let (value, meta) = before.value();
                            tally(&mut counted, dataset).take(key, value, meta);
                        }
                    }
                }
            }
            check(&counted, quota)
        })?;
        *tallies = counted;
        Ok(())
    }

    /// A row.
    pub fn row(&self, dataset: &str, key: &str) -> Outcome<Option<Row>> {
        let read = self.store.database.begin_read().map_err(fail)?;
        let table = match read.open_table(ENTRIES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        Ok(table.get((dataset, key)).map_err(fail)?.map(|row| {
            let (value, meta) = row.value();
            Row {
                dataset: dataset.to_owned(),
                key: key.to_owned(),
                value: value.map(<[u8]>::to_vec),
                meta: meta.to_vec(),
            }
        }))
    }

    /// Rows of a dataset after this key, in the order of their keys: so many rows, and bytes of keys and metadata, at most.
    pub fn heads(
        &self,
        dataset: &str,
        after: Option<&str>,
        rows: usize,
        bytes: usize,
    ) -> Outcome<Vec<RowHead>> {
        let (mut heads, mut size) = (Vec::new(), 0);
        self.walk(dataset, after, |key, value, meta| {
            size += key.len() + meta.len();
            let fits = heads.is_empty() || (heads.len() < rows && size <= bytes);
            if fits {
                let (key, length) = (key.to_owned(), value.map(<[u8]>::len));
                heads.push(RowHead { key, length, meta: meta.to_vec() });
            }
            fits
        })?;
        Ok(heads)
    }

    /// Entries of a dataset that readers see, whose keys begin with `prefix`, after this key, in their order.
    pub fn list(
        &self,
        dataset: &str,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Outcome<Vec<Listed>> {
        let mut found: Vec<Listed> = Vec::new();
        // The prefix itself may be a key, and nothing before it is of interest.
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        self.walk_from(dataset, from, |key, value, _| {
            if !key.starts_with(prefix) || found.len() == most {
                return false;
            }
            if let Some(value) = value {
                found.push(Listed { key: key.to_owned(), bytes: value.len() as u64 });
            }
            true
        })?;
        Ok(found)
    }

    /// What a dataset holds.
    pub fn tally(&self, dataset: &str) -> Tally {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.get(dataset).copied().unwrap_or_default()
    }

    fn walk(
        &self,
        dataset: &str,
        after: Option<&str>,
        visit: impl FnMut(&str, Option<&[u8]>, &[u8]) -> bool,
    ) -> Outcome<()> {
        self.walk_from(dataset, after.map_or(Bound::Included(""), Bound::Excluded), visit)
    }

    fn walk_from(
        &self,
        dataset: &str,
        from: Bound<&str>,
        mut visit: impl FnMut(&str, Option<&[u8]>, &[u8]) -> bool,
    ) -> Outcome<()> {
        let read = self.store.database.begin_read().map_err(fail)?;
        let table = match read.open_table(ENTRIES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        let from = match from {
            Bound::Included(key) => Bound::Included((dataset, key)),
            Bound::Excluded(key) => Bound::Excluded((dataset, key)),
            Bound::Unbounded => Bound::Included((dataset, "")),
        };
        for row in table.range::<(&str, &str)>((from, Bound::Unbounded)).map_err(fail)? {
            let (place, row) = row.map_err(fail)?;
            let ((of, key), (value, meta)) = (place.value(), row.value());
            if of != dataset || !visit(key, value, meta) {
                break;
            }
        }
        Ok(())
    }
}

fn tally<'a>(tallies: &'a mut Tallies, dataset: &str) -> &'a mut Tally {
    tallies.entry(dataset.to_owned()).or_default()
}

fn check(tallies: &Tallies, quota: Quota<'_>) -> Outcome<()> {
    let all = || quota.datasets.iter().filter_map(|dataset| tallies.get(dataset));
    let rows: u64 = all().map(|tally| tally.entries + tally.removed).sum();
    let bytes: u64 = all().map(|tally| tally.bytes).sum();
    if rows <= quota.rows && bytes <= quota.bytes {
        return Ok(());
    }
    let limit = format!("{} rows and {} bytes", quota.rows, quota.bytes);
    Err(Fault::new(Code::StorageFull, format!("the datasets would hold more than {limit}"))
        .fix("`midplane dataset rm DATASET KEY` what is not needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Quota<'_> = Quota { datasets: &[], rows: 100, bytes: 1000 };

    fn put<'a>(dataset: &'a str, key: &'a str, value: Option<&'a [u8]>, meta: &'a [u8]) -> RowChange<'a> {
        RowChange::Put { dataset, key, value, meta }
    }

    fn keys(listed: &[Listed]) -> Vec<&str> {
        listed.iter().map(|listed| listed.key.as_str()).collect()
    }

    #[test]
    fn rows_are_kept_whole_and_counted_again_after_opening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let tally = Tally { entries: 2, values: 5, removed: 1, bytes: 12 };
        {
            let entries = Entries::open(Arc::new(Store::open(&path).unwrap())).unwrap();
            assert_eq!(entries.row("a", "x").unwrap(), None);
            assert_eq!(entries.list("a", "", None, 9).unwrap(), []);
            let changes = [
                put("a", "x", Some(b"one"), b"m"),
                put("a", "y", Some(b""), b"mm"),
                put("a", "gone", None, b""),
                put("b", "x", Some(b"other"), b""),
            ];
            entries.apply(&changes, WIDE).unwrap();
            let change = [
                put("a", "y", Some(b"23"), b"m"),
                RowChange::Remove { dataset: "a", key: "gone" },
                RowChange::Remove { dataset: "a", key: "never" },
                put("a", "z", None, b"mm"),
            ];
            entries.apply(&change, WIDE).unwrap();
            assert_eq!(entries.tally("a"), tally);
        }
        let entries = Entries::open(Arc::new(Store::open(&path).unwrap())).unwrap();
        assert_eq!(entries.tally("a"), tally);
        assert_eq!(entries.tally("c"), Tally::default());
        let row = entries.row("a", "y").unwrap().unwrap();
        assert_eq!((row.value.as_deref(), row.meta.as_slice()), (Some(&b"23"[..]), &b"m"[..]));
        assert_eq!(entries.row("a", "gone").unwrap(), None);
    }

    #[test]
    fn what_exceeds_the_quota_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("state.redb")).unwrap());
        let entries = Entries::open(store).unwrap();
        let datasets = ["a".to_owned(), "b".to_owned()];
        let quota = Quota { datasets: &datasets, rows: 2, bytes: 10 };
        entries.apply(&[put("a", "k", Some(b"123"), b"")], quota).unwrap();
        for wrong in [
            &[put("b", "k", Some(b""), b""), put("b", "l", None, b"")][..],
            &[put("b", "k", Some(b"123456"), b"")],
        ] {
            let fault = entries.apply(wrong, quota).unwrap_err();
            assert_eq!(fault.code, Code::StorageFull, "{fault}");
            assert_eq!(entries.row("b", "k").unwrap(), None);
            assert_eq!(entries.tally("b"), Tally::default());
        }
        entries.apply(&[put("b", "k", Some(b"12345"), b"")], quota).unwrap();
        // A row in the place of another one counts once.
        entries.apply(&[put("b", "k", Some(b"54321"), b"")], quota).unwrap();
        // What other slots hold does not count.
        entries.apply(&[put("c", "k", Some(b"12345"), b"")], quota).unwrap();
    }

    #[test]
    fn lists_and_heads_stay_within_dataset_prefix_and_piece() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("state.redb")).unwrap());
        let entries = Entries::open(store).unwrap();
        let all = [("a", "z"), ("b", "a"), ("b", "a/1"), ("b", "a/2"), ("b", "b"), ("c", "a")];
        let changes: Vec<_> = all.iter().map(|(dataset, key)| put(dataset, key, Some(b"v"), b"m")).collect();
        entries.apply(&changes, WIDE).unwrap();
        entries.apply(&[put("b", "a/1", None, b"m")], WIDE).unwrap();
        let list = |prefix, after, most| entries.list("b", prefix, after, most).unwrap();
        assert_eq!(keys(&list("", None, 9)), ["a", "a/2", "b"]);
        assert_eq!(keys(&list("a", None, 9)), ["a", "a/2"]);
        assert_eq!(keys(&list("a", Some("a"), 1)), ["a/2"]);
        assert_eq!(keys(&list("", Some("a/2"), 9)), ["b"]);
        let heads = |after, rows, bytes| {
            let heads = entries.heads("b", after, rows, bytes).unwrap();
            heads.into_iter().map(|head| (head.key, head.length)).collect::<Vec<_>>()
        };
        let (one, two) = (("a".to_owned(), Some(1)), ("a/1".to_owned(), None));
        assert_eq!(heads(None, 2, 100), [one.clone(), two.clone()]);
        assert_eq!(heads(None, 9, 1), [one]);
        assert_eq!(heads(Some("a"), 9, 4), [two]);
        assert_eq!(heads(Some("b"), 9, 100), []);
    }
}
