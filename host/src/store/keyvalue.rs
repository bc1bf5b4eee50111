//! Keys and values of workloads, in the node's database. Each slot has a quota and buckets of its own; no path leads from one
//! slot to another, because the slot is part of every key.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::state::{Store, fail};
use crate::words::{Code, Fault, Outcome};

/// Bytes of a key.
pub const KEY_MAX: usize = 1 << 10;
/// Bytes of a value: as much as one call carries.
pub const VALUE_MAX: usize = 1 << 20;
/// Bytes of all keys and values of one slot on one node.
pub const SLOT_MAX: u64 = 16 << 20;
/// What an entry counts beside its key and value, so that a million empty ones are not free.
const ENTRY_BYTES: u64 = 64;
/// Keys of one listing.
const KEYS_MOST: usize = 1_000;

/// Slot, bucket, key.
type Key<'a> = (&'a str, &'a str, &'a str);
const VALUES: TableDefinition<'_, Key<'_>, &[u8]> = TableDefinition::new("keyvalue");
/// Bytes that a slot uses.
const USED: TableDefinition<'_, &str, u64> = TableDefinition::new("keyvalue-used");

/// One bucket of one slot.
#[derive(Clone, Copy)]
pub struct Bucket<'a> {
    /// The database.
    pub store: &'a Store,
    /// The slot.
    pub slot: &'a str,
    /// The bucket's name.
    pub name: &'a str,
}

impl Bucket<'_> {
    /// The values of some keys, in their order. Behind more than `most` bytes nothing is read any more: one value under one key can be asked
    /// for any number of times.
    pub fn get(&self, keys: &[String], most: u64) -> Outcome<Vec<Option<Vec<u8>>>> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let Some(table) = self.store.read(VALUES)? else { return Ok(vec![None; keys.len()]) };
        let mut read = 0_u64;
        let get = |key: &String| {
            if read > most {
                return Ok(None);
            }
            let value = table.get((self.slot, self.name, key.as_str())).map_err(fail)?;
            let value = value.map(|value| value.value().to_vec());
            read = read.saturating_add(value.as_ref().map_or(0, |value| value.len() as u64));
            Ok(value)
        };
        keys.iter().map(get).collect()
    }

    /// Keeps all of these or none, durably.
    pub fn set(&self, entries: &[(String, Vec<u8>)]) -> Outcome<()> {
        for (key, value) in entries {
            check_key(key)?;
            if value.len() > VALUE_MAX {
                let what = format!("value of {} bytes; the limit is {VALUE_MAX}", value.len());
                return Err(Fault::new(Code::TooLarge, what));
            }
        }
        self.store.write(|write| entries.iter().try_for_each(|(key, value)| self.put(write, key, value)))
    }

    /// Forgets all of these, durably. Those that are not there are none.
    pub fn delete(&self, keys: &[String]) -> Outcome<()> {
        keys.iter().try_for_each(|key| check_key(key))?;
        self.store.write(|write| {
            let mut table = write.open_table(VALUES).map_err(fail)?;
            let mut used = used(write, self.slot)?;
            for key in keys {
                let old = table.remove((self.slot, self.name, key.as_str())).map_err(fail)?;
                used = used.saturating_sub(old.map_or(0, |old| cost(key, old.value())));
            }
            keep_used(write, self.slot, used)
        })
    }

    /// Adds to a whole number that is kept as text, from 0 where there is none; answers the sum.
    pub fn increment(&self, key: &str, delta: u64) -> Outcome<u64> {
        check_key(key)?;
        let mut sum = 0;
        self.store.write(|write| {
            let old = {
                let table = write.open_table(VALUES).map_err(fail)?;
                let old = table.get((self.slot, self.name, key)).map_err(fail)?;
                old.map(|old| old.value().to_vec())
            };
            let number = match &old {
                None => Some(0_u64),
                Some(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
            };
            let wrong = |why: &str| Fault::new(Code::BadArgument, format!("{key} {why}"));
            let number = number.ok_or_else(|| wrong("is no whole number"))?;
            sum = number.checked_add(delta).ok_or_else(|| wrong("would not fit into 64 bits"))?;
            self.put(write, key, sum.to_string().as_bytes())
        })?;
        Ok(sum)
    }

    /// Keys in order, after so many that were seen already; and how many are seen then, if there are more.
    pub fn keys(&self, seen: u64) -> Outcome<(Vec<String>, Option<u64>)> {
        let Some(table) = self.store.read(VALUES)? else { return Ok((Vec::new(), None)) };
        let skip = usize::try_from(seen).unwrap_or(usize::MAX);
        let mut keys = Vec::new();
        for entry in table.range((self.slot, self.name, "")..).map_err(fail)?.skip(skip) {
            let (key, _) = entry.map_err(fail)?;
            let (slot, bucket, key) = key.value();
            if (slot, bucket) != (self.slot, self.name) {
                break;
            }
            if keys.len() == KEYS_MOST {
                return Ok((keys, Some(seen.saturating_add(KEYS_MOST as u64))));
            }
            keys.push(key.to_owned());
        }
        Ok((keys, None))
    }

    fn put(&self, write: &WriteTransaction, key: &str, value: &[u8]) -> Outcome<()> {
        let mut table = write.open_table(VALUES).map_err(fail)?;
        let used = used(write, self.slot)?;
        let old = table.insert((self.slot, self.name, key), value).map_err(fail)?;
        let before = old.map_or(0, |old| cost(key, old.value()));
        let after = used.saturating_sub(before).saturating_add(cost(key, value));
        if after > SLOT_MAX && after > used {
            let what = format!("{} would keep {after} bytes; the limit is {SLOT_MAX}", self.slot);
            return Err(Fault::new(Code::StorageFull, what));
        }
        keep_used(write, self.slot, after)
    }
}

fn check_key(key: &str) -> Outcome<()> {
    if key.is_empty() || key.len() > KEY_MAX {
        let what = format!("key of {} bytes; it has 1 to {KEY_MAX}", key.len());
        return Err(Fault::new(Code::TooLarge, what));
    }
    Ok(())
}

fn cost(key: &str, value: &[u8]) -> u64 {
    (key.len() as u64).saturating_add(value.len() as u64).saturating_add(ENTRY_BYTES)
}

fn used(write: &WriteTransaction, slot: &str) -> Outcome<u64> {
    let table = write.open_table(USED).map_err(fail)?;
    Ok(table.get(slot).map_err(fail)?.map_or(0, |used| used.value()))
}

fn keep_used(write: &WriteTransaction, slot: &str, used: u64) -> Outcome<()> {
    write.open_table(USED).map_err(fail)?.insert(slot, used).map_err(fail)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(check: impl FnOnce(&Store)) {
        let directory = tempfile::tempdir().unwrap();
        check(&Store::open(&directory.path().join("state.redb")).unwrap());
    }

    fn one(key: &str, value: &[u8]) -> Vec<(String, Vec<u8>)> {
        vec![(key.to_owned(), value.to_vec())]
    }

    #[test]
    fn slots_and_buckets_are_apart() {
        with(|store| {
            let bucket = |slot, name| Bucket { store, slot, name };
            bucket("a", "b").set(&one("k", b"1")).unwrap();
            for (slot, name, there) in
                [("a", "b", true), ("a", "c", false), ("b", "b", false), ("ab", "", false)]
            {
                let found = bucket(slot, name).get(&["k".to_owned()], SLOT_MAX).unwrap();
                assert_eq!(found, [there.then(|| b"1".to_vec())], "{slot} {name}");
                assert_eq!(bucket(slot, name).keys(0).unwrap().0.len(), usize::from(there));
            }
            bucket("b", "b").delete(&["k".to_owned()]).unwrap();
            assert_eq!(bucket("a", "b").get(&["k".to_owned()], SLOT_MAX).unwrap(), [Some(b"1".to_vec())]);
        });
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        with(|store| {
            let bucket = Bucket { store, slot: "a", name: "b" };
            bucket.set(&one("k", &[1; 1_000])).unwrap();
            let found = bucket.get(&vec!["k".to_owned(); 100], 5_000).unwrap();
            assert_eq!((found.len(), found.iter().flatten().count()), (100, 6));
        });
    }

    #[test]
    fn the_quota_counts_what_is_there() {
        with(|store| {
            let bucket = Bucket { store, slot: "a", name: "b" };
            let large = vec![1; VALUE_MAX];
            let mut count: u64 = 0;
            let full = loop {
                match bucket.set(&one(&format!("{count:02}"), &large)) {
                    Ok(()) => count += 1,
                    Err(fault) => break fault,
                }
            };
            assert_eq!((full.code, count), (Code::StorageFull, SLOT_MAX / (VALUE_MAX as u64 + 66)));
            bucket.set(&one("00", &large)).unwrap();
            assert_eq!(
                bucket.get(&[format!("{count:02}")], SLOT_MAX).unwrap(),
                [None],
                "a refused put changes nothing"
            );
            bucket.delete(&["00".to_owned(), "none".to_owned()]).unwrap();
            bucket.set(&one("10", &large)).unwrap();
            bucket.set(&one("xx", &large)).unwrap();
            assert_eq!(bucket.set(&one("yy", &large)).unwrap_err().code, Code::StorageFull);
            Bucket { slot: "other", ..bucket }.set(&one("k", &large)).unwrap();
        });
    }

    #[test]
    fn limits_and_numbers() {
        with(|store| {
            let bucket = Bucket { store, slot: "a", name: "b" };
            for key in ["", &"k".repeat(KEY_MAX + 1)] {
                assert_eq!(bucket.set(&one(key, b"")).unwrap_err().code, Code::TooLarge);
                assert_eq!(bucket.get(&[key.to_owned()], SLOT_MAX).unwrap_err().code, Code::TooLarge);
            }
            assert_eq!(bucket.set(&one("k", &vec![0; VALUE_MAX + 1])).unwrap_err().code, Code::TooLarge);
            assert_eq!((bucket.increment("n", 2).unwrap(), bucket.increment("n", 3).unwrap()), (2, 5));
            assert_eq!(bucket.get(&["n".to_owned()], SLOT_MAX).unwrap(), [Some(b"5".to_vec())]);
            assert_eq!(bucket.increment("n", u64::MAX).unwrap_err().code, Code::BadArgument);
            bucket.set(&one("text", b"x")).unwrap();
            assert_eq!(bucket.increment("text", 1).unwrap_err().code, Code::BadArgument);
        });
    }

    #[test]
    fn keys_come_in_pages() {
        with(|store| {
            let bucket = Bucket { store, slot: "a", name: "b" };
            let entries: Vec<(String, Vec<u8>)> =
                (0..=KEYS_MOST).map(|number| (format!("{number:05}"), Vec::new())).collect();
            bucket.set(&entries).unwrap();
            let (first, cursor) = bucket.keys(0).unwrap();
            let (rest, end) = bucket.keys(cursor.unwrap()).unwrap();
            assert_eq!((first.len(), rest, end), (KEYS_MOST, vec![format!("{KEYS_MOST:05}")], None));
            assert_eq!(bucket.keys(u64::MAX).unwrap(), (vec![], None));
        });
    }
}
