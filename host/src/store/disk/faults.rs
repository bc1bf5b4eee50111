//! A disk that fails where a test wants it to, and a power that goes.
//!
//! What was not synced when the power goes is lost in part: of bytes half of them stay, and names go back to what they were. That is
//! the worst that a file system which keeps its word may do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Disk, Step};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Nothing,
    /// The operation of this number fails, once.
    Fail(usize, ErrorKind),
    /// From the operation of this number on, whatever needs room fails.
    Full(usize),
    /// The power goes at the operation of this number.
    Crash(usize),
}

/// The faults of one disk.
#[derive(Debug)]
pub struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    plan: Plan,
    steps: usize,
    off: bool,
    free: Option<u64>,
    /// Files with bytes that are not durable, and how many are.
    loose: BTreeMap<PathBuf, u64>,
    /// Changes of names that are not durable, oldest first.
    names: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Appeared(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, old: Option<Vec<u8>> },
}

impl Faults {
    /// A disk to which this happens.
    pub fn disk(plan: Plan) -> (Disk, Arc<Self>) {
        let state =
            State { plan, steps: 0, off: false, free: None, loose: BTreeMap::new(), names: Vec::new() };
        let faults = Arc::new(Self(Mutex::new(state)));
        (Disk { faults: Some(faults.clone()) }, faults)
    }

    /// Operations so far.
    pub fn steps(&self) -> usize {
        self.0.lock().unwrap().steps
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.0.lock().unwrap().off
    }

    /// What happens from now on.
    pub fn plan(&self, plan: Plan) {
        self.0.lock().unwrap().plan = plan;
    }

    /// What the file system says is free; none for the truth.
    pub fn set_free(&self, free: Option<u64>) {
        self.0.lock().unwrap().free = free;
    }

    pub(super) fn free(&self) -> Option<u64> {
        self.0.lock().unwrap().free
    }

    /// The power goes now.
    pub fn power_off(&self) {
        let mut state = self.0.lock().unwrap();
        if !state.off {
            state.lose();
        }
    }

    pub(super) fn step(&self, step: Step<'_>) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        let number = state.steps;
        state.steps += 1;
        if state.off {
            return Err(Error::other("the power is gone"));
        }
        match state.plan {
            Plan::Fail(at, kind) if at == number => {
                state.plan = Plan::Nothing;
                return Err(kind.into());
            }
            Plan::Full(from) if number >= from && needs_room(&step) => {
                if let Step::Write(_, file, bytes, at) = step {
                    // A disk that fills up takes what still fits.
                    file.write_all_at(&bytes[..bytes.len() / 2], at)?;
                }
                return Err(ErrorKind::StorageFull.into());
            }
            Plan::Crash(at) if at == number => {
                if let Step::Write(path, file, bytes, at) = step {
                    state.loosen(path, file);
                    file.write_all_at(&bytes[..bytes.len() / 2], at)?;
                }
                state.lose();
                return Err(Error::other("the power is gone"));
            }
            _ => {}
        }
        state.note(step);
        Ok(())
    }
}

fn needs_room(step: &Step<'_>) -> bool {
    matches!(step, Step::Write(..) | Step::Create(_) | Step::Other)
}

impl State {
    fn note(&mut self, step: Step<'_>) {
        match step {
            Step::Write(path, file, ..) => self.loosen(path, file),
            Step::Sync(path) => drop(self.loose.remove(path)),
            Step::Remove(path) => {
                self.loose.remove(path);
                self.names.retain(|change| !matches!(change, Change::Appeared(new) if new == path));
            }
            Step::Create(path) if !path.exists() => self.names.push(Change::Appeared(path.to_owned())),
            Step::Rename(from, to) => {
                let old = std::fs::read(to).ok();
                self.loose.remove(to);
                if let Some(durable) = self.loose.remove(from) {
                    self.loose.insert(to.to_owned(), durable);
                }
                self.names.push(Change::Renamed { from: from.to_owned(), to: to.to_owned(), old });
            }
            Step::SyncDirectory(directory) => self.names.retain(|change| {
                let (Change::Appeared(name) | Change::Renamed { to: name, .. }) = change;
                name.parent() != Some(directory)
            }),
            Step::Create(_) | Step::Other => {}
        }
    }

    fn loosen(&mut self, path: &Path, file: &File) {
        let durable = file.metadata().map_or(0, |status| status.len());
        self.loose.entry(path.to_owned()).or_insert(durable);
    }

    fn lose(&mut self) {
        self.off = true;
        for (path, durable) in std::mem::take(&mut self.loose) {
            let Ok(file) = File::options().write(true).open(&path) else { continue };
            let length = file.metadata().map_or(0, |status| status.len());
            let _ = file.set_len(durable + length.saturating_sub(durable) / 2);
        }
        for change in std::mem::take(&mut self.names).into_iter().rev() {
            match change {
                Change::Appeared(path) => drop(std::fs::remove_file(path)),
                Change::Renamed { from, to, old } => {
                    let _ = std::fs::rename(&to, from);
                    if let Some(old) = old {
                        let _ = std::fs::write(&to, old);
                    }
                }
            }
        }
    }
}
