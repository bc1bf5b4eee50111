//! The events of a node: a ring with numbers, and those who follow it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::NodeInner;
use super::answer::Writer;
use super::control::REPORT_MAX;
use crate::clock;
use crate::words::event::{Event, Happened};
use crate::words::{Code, Fault, Outcome, note};

/// Events that are kept: days of a quiet node, some minutes of one in trouble.
const KEPT: usize = 1_024;
/// Events that a slow follower may be behind before it misses some, which the numbers show.
const BEHIND: usize = 256;
/// Events of one kind and culprit that come faster than this are told together.
const PAUSE_MS: u64 = 1_000;
/// Culprits that are remembered for that. There are fewer slots than this; functions that trap may be more.
const CULPRITS_MOST: usize = 1_024;
/// Longest reason: it comes from outside, and each event is kept.
const WHY_MAX: usize = 512;

/// The events of one run of the node.
pub struct Journal {
    book: Mutex<Book>,
    follow: broadcast::Sender<Event>,
}

#[derive(Default)]
struct Book {
    last: u64,
    kept: VecDeque<Event>,
    culprits: BTreeMap<String, Culprit>,
}

#[derive(Default)]
struct Culprit {
    told: u64,
    missed: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { book: Mutex::default(), follow: broadcast::channel(BEHIND).0 }
    }
}

impl Journal {
    /// Records what happened; whether it is told now, and not together with the next one of its kind.
    pub fn record(&self, what: Happened) -> bool {
        let event = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            match book.write(what, clock::now_ms()) {
                Some(event) => event,
                None => return false,
            }
        };
        // Nobody follows: nothing to do.
        let _ = self.follow.send(event);
        true
    }

    /// Writes the events after a number, at most the newest `tail`, and then what comes.
    pub async fn tell(&self, after: u64, tail: u32, follow: bool, writer: &mut Writer) -> Outcome<()> {
        // Subscribed before the past is read, so that no event falls between the two.
        let mut coming = self.follow.subscribe();
        let mut last = after;
        for event in self.since(after, tail) {
            last = event.seq;
            writer.item(&note::write("event", &event, REPORT_MAX)?).await?;
        }
        if !follow {
            return writer.end().await;
        }
        loop {
            match coming.recv().await {
                Ok(event) if event.seq <= last => {}
                Ok(event) => writer.item(&note::write("event", &event, REPORT_MAX)?).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return writer.end().await,
            }
        }
    }

    fn since(&self, after: u64, tail: u32) -> Vec<Event> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let newer: Vec<&Event> = book.kept.iter().filter(|event| event.seq > after).collect();
        let skip = newer.len().saturating_sub(tail as usize);
        newer.into_iter().skip(skip).cloned().collect()
    }
}

impl NodeInner {
    /// Records that a workload of this node was ended, if that is what the fault says.
    pub fn note_trap(&self, fault: &Fault) {
        // One that was replaced and took too long has done nothing wrong.
        let Some(report) = fault.report.as_ref().filter(|_| fault.code != Code::Replaced) else { return };
        let (slot, function) = (report.plugin.clone(), report.function.clone());
        let generation = self.generation.load();
        let runs = generation.plugins.get(&slot);
        // A deadline may be the caller's: whoever may call must not be able to bring a plugin into disrepute.
        if fault.code != Code::Deadline
            && let Some(installed) =
                runs.filter(|runs| runs.entry.component.digest.to_string() == report.digest)
        {
            installed.failed.fetch_add(1, Ordering::Relaxed);
            installed.last_fault.store(Some(Arc::new(fault.clone())));
        }
        self.journal.record(Happened::PluginTrapped { slot, function, why: why(fault) });
    }
}

impl Book {
    fn write(&mut self, what: Happened, now: u64) -> Option<Event> {
        // Also when the clock was set back.
        let now = self.kept.back().map_or(now, |last| now.max(last.at));
        let mut times = 1;
        if let Some(key) = what.merges() {
            if self.culprits.len() >= CULPRITS_MOST && !self.culprits.contains_key(&key) {
                self.culprits.retain(|_, culprit| now.saturating_sub(culprit.told) < PAUSE_MS);
            }
            if self.culprits.len() >= CULPRITS_MOST && !self.culprits.contains_key(&key) {
                self.culprits.clear();
            }
            let culprit = self.culprits.entry(key).or_default();
            if culprit.told > 0 && now.saturating_sub(culprit.told) < PAUSE_MS {
                culprit.missed += 1;
                return None;
            }
            times += std::mem::take(&mut culprit.missed);
            culprit.told = now;
        }
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.last += 1;
        let event = Event { seq: self.last, at: now, times, what };
        self.kept.push_back(event.clone());
        Some(event)
    }
}

/// A reason as events carry it.
pub fn why(fault: &Fault) -> String {
    shorten(&fault.to_string())
}

/// A text from outside as events carry it.
pub fn shorten(text: &str) -> String {
    let mut text = crate::log::clean(text);
    text.truncate(text.floor_char_boundary(WHY_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Happened {
        Happened::PeerRefused { peer: None, address: "a:1".into(), why: "no".into() }
    }

    #[test]
    fn events_have_numbers_without_gaps_and_the_oldest_go() {
        let mut book = Book::default();
        for number in 1..=KEPT as u64 + 10 {
            let event = book.write(Happened::RootUpdated { from: number, to: number + 1 }, 5).unwrap();
            assert_eq!((event.seq, event.at, event.times), (number, 5, 1));
        }
        assert_eq!((book.kept.len(), book.kept.front().unwrap().seq), (KEPT, 11));
    }

    #[test]
    fn what_comes_too_fast_is_told_together_and_counted() {
        let mut book = Book::default();
        assert_eq!(book.write(refused(), 10_000).unwrap().times, 1);
        for millisecond in 0..PAUSE_MS - 1 {
            assert_eq!(book.write(refused(), 10_001 + millisecond), None);
        }
        // Others are not held up by it.
        assert_eq!(book.write(Happened::RootUpdated { from: 1, to: 2 }, 10_500).unwrap().seq, 2);
        let next = book.write(refused(), 10_000 + PAUSE_MS).unwrap();
        assert_eq!((next.seq, next.times), (3, PAUSE_MS));
        for culprit in 0..5_000 {
            let what = Happened::PluginTrapped {
                slot: "skill/x".into(),
                function: format!("f{culprit}"),
                why: String::new(),
            };
            book.write(what, 20_000);
            assert!(book.culprits.len() <= CULPRITS_MOST);
        }
    }

    #[test]
    fn the_past_is_read_from_a_number_on() {
        let journal = Journal::default();
        for number in 1..=20 {
            assert!(journal.record(Happened::RootUpdated { from: number, to: number + 1 }));
        }
        let numbers =
            |after, tail| journal.since(after, tail).iter().map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!(numbers(17, 100), [18, 19, 20]);
        assert_eq!(numbers(0, 2), [19, 20]);
        assert!(numbers(20, 100).is_empty());
        assert_eq!(shorten(&"é".repeat(1_000)).len(), WHY_MAX);
    }
}
