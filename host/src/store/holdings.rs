//! The blobs that slots keep: which, how many bytes of their grant that takes, and room for those that are still being put.
//!
//! A row for each slot and blob is what keeps the blob from being collected. The row and the sum change in one transaction; room for what is
//! being written is only in memory, because after a crash nothing of it is there. What a slot let go of has a row of another kind, and counts
//! for the slot, until its bytes are gone or somebody else needs them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::state::{Store, fail};
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// What a blob counts beside its bytes: about what the file system takes for a small one, so that a million empty ones are not free.
pub const BLOB_COST: u64 = 4 << 10;

/// Key: slot and digest. Value: length.
const HELD: TableDefinition<'_, (&str, &[u8; 32]), u64> = TableDefinition::new("blobs-held");
/// The same by digest.
const HOLDERS: TableDefinition<'_, (&[u8; 32], &str), ()> = TableDefinition::new("blob-holders");
/// What slots let go of, and what may still take room for them alone. Key: slot and digest. Value: length.
const LEFT: TableDefinition<'_, (&str, &[u8; 32]), u64> = TableDefinition::new("blobs-left");
/// Bytes that count for a slot.
const USED: TableDefinition<'_, &str, u64> = TableDefinition::new("blobs-used");

/// The blobs of all slots of one node.
pub struct Holdings {
    store: Arc<Store>,
    /// Bytes that count for puts that go on, by slot.
    writing: Mutex<HashMap<String, u64>>,
    /// Held while rows of what was let go of come and go, so that no row goes that came after its blob was looked at.
    leaving: Mutex<()>,
}

/// A blob that a slot let go of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The slot that it counts for.
    pub slot: String,
    /// The blob.
    pub blob: BlobRef,
}

impl Holdings {
    /// Kept in this database.
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self { store, writing: Mutex::default(), leaving: Mutex::default() })
    }

    /// Room for one blob of a slot that may keep `most` bytes; none of it is taken yet but the least.
    ///
    /// # Errors
    /// `storage-full` when the slot has no room, `io`.
    pub fn room(self: &Arc<Self>, slot: &str, most: u64) -> Outcome<Room> {
        let mut room = Room { holdings: self.clone(), slot: slot.to_owned(), most, taken: 0 };
        room.grow_to(0)?;
        Ok(room)
    }

    /// Bytes that count for a slot, with those of puts that go on, and of what it let go of and is not gone.
    pub fn used(&self, slot: &str) -> Outcome<u64> {
        let writing = self.writing();
        Ok(self.kept_bytes(slot)?.saturating_add(writing.get(slot).copied().unwrap_or(0)))
    }

    /// Whether a slot keeps a blob.
    pub fn has(&self, slot: &str, digest: &Digest) -> Outcome<bool> {
        let Some(table) = self.store.read(HELD)? else { return Ok(false) };
        Ok(table.get((slot, digest.as_bytes())).map_err(fail)?.is_some())
    }

    /// What a slot keeps after this digest, in order, at most so many.
    pub fn of(&self, slot: &str, after: Option<&Digest>, most: usize) -> Outcome<Vec<BlobRef>> {
        let Some(table) = self.store.read(HELD)? else { return Ok(Vec::new()) };
        let first = after.map_or([0; 32], |digest| *digest.as_bytes());
        let mut found = Vec::new();
        for row in table.range((slot, &first)..).map_err(fail)? {
            let (key, length) = row.map_err(fail)?;
            let (own, digest) = key.value();
            if own != slot || found.len() == most {
                break;
            }
            let digest = Digest::from(*digest);
            if after != Some(&digest) {
                found.push(BlobRef { digest, length: length.value() });
            }
        }
        Ok(found)
    }

    /// The slots that keep a blob.
    pub fn holders(&self, digest: &Digest) -> Outcome<Vec<String>> {
        let Some(table) = self.store.read(HOLDERS)? else { return Ok(Vec::new()) };
        let mut slots = Vec::new();
        for row in table.range((digest.as_bytes(), "")..).map_err(fail)? {
            let (key, _) = row.map_err(fail)?;
            let (own, slot) = key.value();
            if own != digest.as_bytes() {
                break;
            }
            slots.push(slot.to_owned());
        }
        Ok(slots)
    }

    /// The slots that keep something.
    pub fn slots(&self) -> Outcome<Vec<String>> {
        let Some(table) = self.store.read(USED)? else { return Ok(Vec::new()) };
        table.iter().map_err(fail)?.map(|row| Ok(row.map_err(fail)?.0.value().to_owned())).collect()
    }

    /// Lets go of a blob, durably. It counts on until [`Holdings::settle`] finds it gone. None when the slot did not keep it.
    pub fn let_go(&self, slot: &str, digest: &Digest) -> Outcome<Option<Left>> {
        if !self.has(slot, digest)? {
            return Ok(None);
        }
        let leaving = self.leaving();
        let mut left = None;
        self.store.write(|write| {
            let mut held = write.open_table(HELD).map_err(fail)?;
            let key = (slot, digest.as_bytes());
            let length = held.remove(key).map_err(fail)?.map(|length| length.value());
            let Some(length) = length else { return Ok(()) };
            let mut holders = write.open_table(HOLDERS).map_err(fail)?;
            holders.remove((digest.as_bytes(), slot)).map_err(fail)?;
            write.open_table(LEFT).map_err(fail)?.insert(key, length).map_err(fail)?;
            left = Some(Left { slot: slot.to_owned(), blob: BlobRef { digest: *digest, length } });
            Ok(())
        })?;
        drop(leaving);
        Ok(left)
    }

    /// What slots let go of and still counts, after this one, in order, at most so many.
    pub fn left(&self, after: Option<&Left>, most: usize) -> Outcome<Vec<Left>> {
        let Some(table) = self.store.read(LEFT)? else { return Ok(Vec::new()) };
        let first = after.map_or(("", [0; 32]), |left| (left.slot.as_str(), *left.blob.digest.as_bytes()));
        let mut found = Vec::new();
        for row in table.range((first.0, &first.1)..).map_err(fail)? {
            if found.len() == most {
                break;
            }
            let (key, length) = row.map_err(fail)?;
            let (slot, digest) = key.value();
            let blob = BlobRef { digest: Digest::from(*digest), length: length.value() };
            let left = Left { slot: slot.to_owned(), blob };
            if after != Some(&left) {
                found.push(left);
            }
        }
        Ok(found)
    }

    /// What one slot let go of and still counts, at most so many.
    pub fn left_by(&self, slot: &str, most: usize) -> Outcome<Vec<Left>> {
        let before = Left { slot: slot.to_owned(), blob: BlobRef { digest: [0; 32].into(), length: 0 } };
        let mut left = self.left(Some(&before), most)?;
        left.retain(|left| left.slot == slot);
        Ok(left)
    }

    /// Looks whether blobs that were let go of are gone, and stops to count those that are, durably.
    pub fn settle(&self, left: &[Left], gone: &dyn Fn(&BlobRef) -> bool) -> Outcome<()> {
        let leaving = self.leaving();
        let gone: Vec<&Left> = left.iter().filter(|left| gone(&left.blob)).collect();
        if !gone.is_empty() {
            self.store.write(|write| {
                let mut rows = write.open_table(LEFT).map_err(fail)?;
                for Left { slot, blob } in &gone {
                    // It may be kept again since: then it counts as that.
                    let row = rows.remove((slot.as_str(), blob.digest.as_bytes())).map_err(fail)?;
                    if let Some(length) = row.map(|length| length.value()) {
                        let used = used(write, slot)?;
                        keep_used(write, slot, used.saturating_sub(cost(length)))?;
                    }
                }
                Ok(())
            })?;
        }
        drop(leaving);
        Ok(())
    }

    /// Lets go of everything that a slot keeps or has let go of, durably. Nothing of it counts any more: whoever asks collects.
    pub fn forget(&self, slot: &str) -> Outcome<()> {
        self.store.write(|write| {
            let mut holders = write.open_table(HOLDERS).map_err(fail)?;
            // Listed in the transaction that changes it, so that what is kept meanwhile is kept before it or after it.
            for digest in drain(&mut write.open_table(HELD).map_err(fail)?, slot)? {
                holders.remove((&digest, slot)).map_err(fail)?;
            }
            drain(&mut write.open_table(LEFT).map_err(fail)?, slot)?;
            keep_used(write, slot, 0)
        })
    }

    fn keep(&self, slot: &str, most: u64, blob: &BlobRef) -> Outcome<()> {
        self.store.write(|write| {
            let mut held = write.open_table(HELD).map_err(fail)?;
            let key = (slot, blob.digest.as_bytes());
            if held.insert(key, blob.length).map_err(fail)?.is_some() {
                return Ok(());
            }
            let mut holders = write.open_table(HOLDERS).map_err(fail)?;
            holders.insert((blob.digest.as_bytes(), slot), ()).map_err(fail)?;
            let mut left = write.open_table(LEFT).map_err(fail)?;
            if left.remove(key).map_err(fail)?.is_some() {
                // It counts already.
                return Ok(());
            }
            let after = used(write, slot)?.saturating_add(cost(blob.length));
            if after > most {
                return Err(full(slot, after, most));
            }
            keep_used(write, slot, after)
        })
    }

    fn kept_bytes(&self, slot: &str) -> Outcome<u64> {
        let Some(table) = self.store.read(USED)? else { return Ok(0) };
        Ok(table.get(slot).map_err(fail)?.map_or(0, |used| used.value()))
    }

    fn leaving(&self) -> MutexGuard<'_, ()> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // Each change is one step; a panic leaves a sum that is right.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for a blob that is being put. Dropping it gives it back.
pub struct Room {
    holdings: Arc<Holdings>,
    slot: String,
    most: u64,
    taken: u64,
}

impl Room {
    /// Takes room for a blob of so many bytes, if it is not taken yet.
    ///
    /// # Errors
    /// `storage-full` when the slot has none, `io`; then as much is taken as before.
    pub fn grow_to(&mut self, bytes: u64) -> Outcome<()> {
        let wanted = cost(bytes);
        if wanted <= self.taken {
            return Ok(());
        }
        let mut writing = self.holdings.writing();
        let others = writing.get(&self.slot).copied().unwrap_or(0).saturating_sub(self.taken);
        let after = self.holdings.kept_bytes(&self.slot)?.saturating_add(others).saturating_add(wanted);
        if after > self.most {
            return Err(full(&self.slot, after, self.most));
        }
        writing.insert(self.slot.clone(), others.saturating_add(wanted));
        self.taken = wanted;
        Ok(())
    }

    /// Keeps the blob for the slot, durably. It must be there, and leased until this is done.
    ///
    /// # Errors
    /// `storage-full` when the slot has no room, `io`.
    pub fn keep(self, blob: &BlobRef) -> Outcome<()> {
        self.holdings.keep(&self.slot, self.most, blob)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut writing = self.holdings.writing();
        if let Some(sum) = writing.get_mut(&self.slot) {
            *sum = sum.saturating_sub(self.taken);
            if *sum == 0 {
                writing.remove(&self.slot);
            }
        }
    }
}

/// Takes out all rows of a slot, and says of which blobs they were.
fn drain(
    table: &mut Table<'_, (&'static str, &'static [u8; 32]), u64>,
    slot: &str,
) -> Outcome<Vec<[u8; 32]>> {
    let mut digests = Vec::new();
    for row in table.range((slot, &[0; 32])..=(slot, &[0xff; 32])).map_err(fail)? {
        digests.push(*row.map_err(fail)?.0.value().1);
    }
    for digest in &digests {
        table.remove((slot, digest)).map_err(fail)?;
    }
    Ok(digests)
}

fn cost(length: u64) -> u64 {
    length.saturating_add(BLOB_COST)
}

fn full(slot: &str, after: u64, most: u64) -> Fault {
    let what = format!("{slot} would keep blobs of {after} bytes; its grant is {most}");
    Fault::new(Code::StorageFull, what).fix(format!("grants.blobs = {{ write = {after} }}"))
}

fn used(write: &WriteTransaction, slot: &str) -> Outcome<u64> {
    let table = write.open_table(USED).map_err(fail)?;
    Ok(table.get(slot).map_err(fail)?.map_or(0, |used| used.value()))
}

/// A slot that keeps nothing has no row.
fn keep_used(write: &WriteTransaction, slot: &str, used: u64) -> Outcome<()> {
    let mut table = write.open_table(USED).map_err(fail)?;
    if used == 0 {
        table.remove(slot).map_err(fail)?;
    } else {
        table.insert(slot, used).map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
