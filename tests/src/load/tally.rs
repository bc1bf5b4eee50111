//! What the calls came to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use midplane::clock::{self, Instant};
use midplane::node::Node;

/// Failures that are told in words.
const TOLD: usize = 12;
/// Steps between a power of two and the next: what is read from a histogram is at most a sixteenth too high.
const STEPS: usize = 16;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value, on the node that serves it.
    Local,
    /// One value, over the link.
    Remote,
    /// A stream, here or over the link, as fast as it comes.
    Stream,
    /// One value, or a stream, after seconds.
    Long,
    /// A request on a connection that stays.
    Http,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 5] = [Kind::Local, Kind::Remote, Kind::Stream, Kind::Long, Kind::Http];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Local => "local",
            Kind::Remote => "over the link",
            Kind::Stream => "streams",
            Kind::Long => "long",
            Kind::Http => "http",
        }
    }
}

/// What went wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was not answered.
    Failed,
    /// Somebody answered who was not in force.
    Misrouted,
    /// Its stream was not whole.
    Cut,
}

/// Times, by how long they are.
pub struct Histogram(Vec<AtomicU64>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..64 * STEPS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(STEPS as u64);
        let power = nanos.ilog2();
        let step = (nanos >> (power - STEPS.ilog2())) as usize % STEPS;
        self.0[power as usize * STEPS + step].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// A time that so many of a thousand do not exceed; none of nothing.
    pub fn within(&self, thousandths: u64) -> Option<Duration> {
        let count = self.count();
        let wanted = (count * thousandths).div_ceil(1_000).max(1);
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count.load(Ordering::Relaxed);
            seen >= wanted
        });
        let (power, step) = at.map(|at| (at / STEPS, at % STEPS)).filter(|_| count > 0)?;
        let nanos = (1_u128 << power) + (((step as u128 + 1) << power) / STEPS as u128);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// The slowest call that each of many instants fell into, by node and instant.
#[derive(Default)]
pub struct Overlaps(Mutex<BTreeMap<(usize, Instant), Duration>>);

impl Overlaps {
    /// A call that goes over an instant.
    fn add(&self, node: usize, at: Instant, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slowest = all.entry((node, at)).or_default();
        *slowest = took.max(*slowest);
    }

    /// The slowest of each instant.
    pub fn times(&self) -> Histogram {
        let histogram = Histogram::default();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|took| histogram.add(*took));
        histogram
    }
}

/// The counts of one kind.
#[derive(Default)]
pub struct Count {
    /// Calls that ended.
    pub calls: AtomicU64,
    /// What each took.
    pub times: Histogram,
    wrong: [AtomicU64; 3],
    /// Instants at which a node published something.
    pub published: Overlaps,
    /// Instants at which nothing happened: what the machine alone does to a call.
    pub marked: Overlaps,
}

/// All counts.
pub struct Tally {
    counts: [Count; Kind::ALL.len()],
    told: Mutex<Vec<String>>,
    since: Instant,
    /// The instant that was marked last, in ns since `since`; 0 for none.
    mark: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        let (counts, told) = Default::default();
        Self { counts, told, since: clock::monotonic(), mark: AtomicU64::new(0) }
    }
}

impl Tally {
    /// The counts of a kind.
    pub fn of(&self, kind: Kind) -> &Count {
        &self.counts[kind as usize]
    }

    /// A call ended well. Looks whether something was published meanwhile.
    pub fn ended(&self, kind: Kind, start: Instant, end: Instant, nodes: &[Node]) {
        let count = self.of(kind);
        count.calls.fetch_add(1, Ordering::Relaxed);
        let took = end - start;
        count.times.add(took);
        let over = |instant: Instant| instant >= start && instant <= end;
        for (number, node) in nodes.iter().enumerate() {
            let since = node.generation.load().since;
            if over(since) {
                count.published.add(number, since, took);
            }
        }
        match self.mark.load(Ordering::Relaxed) {
            0 => {}
            nanos => {
                let marked = self.since + Duration::from_nanos(nanos);
                if over(marked) {
                    count.marked.add(0, marked, took);
                }
            }
        }
    }

    /// Marks this instant.
    pub fn mark(&self) {
        let nanos = self.since.elapsed().as_nanos();
        self.mark.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A call did not end well.
    pub fn wrong(&self, kind: Kind, wrong: Wrong, why: impl FnOnce() -> String) {
        let count = self.of(kind);
        count.calls.fetch_add(1, Ordering::Relaxed);
        count.wrong[wrong as usize].fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            told.push(format!("{} {wrong:?}: {}", kind.as_str(), why()));
        }
    }

    /// Calls of all kinds.
    pub fn calls(&self) -> u64 {
        self.counts.iter().map(|count| count.calls.load(Ordering::Relaxed)).sum()
    }

    /// Calls of all kinds with which this went wrong.
    pub fn wrongs(&self, wrong: Wrong) -> u64 {
        self.counts.iter().map(|count| count.wrong(wrong)).sum()
    }

    /// The first that went wrong, in words.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Count {
    /// How many calls went wrong in this way.
    pub fn wrong(&self, wrong: Wrong) -> u64 {
        self.wrong[wrong as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_at_most_a_sixteenth_too_high() {
        let histogram = Histogram::default();
        assert_eq!(histogram.within(500), None);
        for micros in 1..=1_000 {
            histogram.add(Duration::from_micros(micros));
        }
        assert_eq!(histogram.count(), 1_000);
        for thousandths in [1, 500, 990, 1_000] {
            let exact = thousandths as f64;
            let read = histogram.within(thousandths).unwrap().as_nanos() as f64 / 1_000.0;
            assert!(read >= exact && read <= exact * 1.07, "{thousandths}: {read}");
        }
    }
}
