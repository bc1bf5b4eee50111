//! What came of it, in words.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::tally::{Count, Histogram, Kind, Overlaps, Tally, Wrong};
use super::{Published, Swaps};

/// Kinds of plugins that are replaced.
const KINDS: [&str; 6] = ["routing", "discovery", "admission", "sync", "skill", "gateway"];

/// One load, without swaps and with them.
#[derive(Default)]
pub struct Phase {
    /// What it is called.
    pub name: &'static str,
    /// Calls a second without swaps.
    pub calls_alone: f64,
    /// Calls a second with them.
    pub calls_swapping: f64,
    /// Cores that had nothing to do meanwhile.
    pub idle: f64,
    /// Slots that were given something else, by kind.
    pub swaps: Swaps,
    /// How many of them were rollbacks of everything.
    pub back: u64,
    /// Nodes that went back by themselves.
    pub returned: u64,
    /// Manifests that were refused, by what is wrong with them.
    pub refused: BTreeMap<&'static str, u64>,
    /// Those that were not, or not as they should.
    pub unrefused: Vec<String>,
    /// Times of the pointer.
    pub publish: Published,
    /// Memory of the process when all calls were over, in bytes.
    pub memory: u64,
    /// Fewest and most swaps that a long call went over; none where none ended in time.
    pub long_over: Option<RangeInclusive<u64>>,
    /// The calls.
    pub tally: Arc<Tally>,
}

/// All of it.
#[derive(Default)]
pub struct Summary {
    /// The loads.
    pub phases: Vec<Phase>,
    /// Memory of the process at the beginning and after the end, in bytes.
    pub before: u64,
    /// The same after the end.
    pub after: u64,
}

impl Phase {
    /// How often the kind was replaced that was replaced least.
    pub fn fewest_swaps(&self) -> u64 {
        KINDS.iter().map(|kind| self.swaps.get(*kind).copied().unwrap_or_default()).min().unwrap_or_default()
    }
}

impl Summary {
    /// What should not have happened.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for phase in &self.phases {
            let counts = [Wrong::Failed, Wrong::Misrouted, Wrong::Cut].map(|wrong| phase.tally.wrongs(wrong));
            if counts != [0; 3] {
                let [failed, misrouted, cut] = counts;
                wrong.push(format!("{}: {failed} failed, {misrouted} misrouted, {cut} cut", phase.name));
                wrong.extend(phase.tally.told());
            }
            wrong.extend(phase.unrefused.iter().map(|what| format!("{}: not refused: {what}", phase.name)));
            for kind in Kind::ALL {
                if phase.tally.of(kind).times.count() == 0 {
                    wrong.push(format!("{}: nobody was called: {}", phase.name, kind.as_str()));
                }
            }
        }
        wrong
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for phase in &self.phases {
            phase.fmt(f)?;
            writeln!(
                f,
                "memory       {:.1} MiB when all calls were over",
                phase.memory as f64 / 1_048_576.0
            )?;
        }
        let mib = |bytes| bytes as f64 / 1_048_576.0;
        let more = |from, to| (mib(to) / mib(from) - 1.0) * 100.0;
        let (before, after) = (self.before, self.after);
        write!(f, "memory       {:.1} MiB before, {:.1} MiB after and drained: ", mib(before), mib(after))?;
        write!(f, "{:+.1} %, aim within 5 %", more(before, after))?;
        match self.phases.first() {
            Some(first) if self.phases.len() > 1 => {
                writeln!(f, "; {:+.1} % since the first phase was over", more(first.memory, after))
            }
            _ => writeln!(f),
        }
    }
}

impl Display for Phase {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let all = |wrong| self.tally.wrongs(wrong);
        writeln!(f, "{}", self.name)?;
        let swaps: Vec<String> = KINDS
            .iter()
            .map(|kind| format!("{kind} {}", self.swaps.get(*kind).copied().unwrap_or_default()))
            .collect();
        writeln!(f, "swaps        {}", swaps.join(", "))?;
        let (Self { back, returned, .. }, refused) = (self, self.refused.values().sum::<u64>());
        writeln!(
            f,
            "between      {back} rollbacks, {returned} returns from routing that traps in use, {refused} refused"
        )?;
        writeln!(
            f,
            "calls/s      {:.0} with swaps, {:.0} without; {:.2} cores idle",
            self.calls_swapping, self.calls_alone, self.idle
        )?;
        writeln!(
            f,
            "wrong        {} failed, {} misrouted, {} streams lost or cut",
            all(Wrong::Failed),
            all(Wrong::Misrouted),
            all(Wrong::Cut)
        )?;
        for (what, times) in &self.refused {
            writeln!(f, "refused      {times} times: {what}")?;
        }
        match &self.long_over {
            Some(over) => {
                writeln!(f, "long         calls went over {} to {} swaps", over.start(), over.end())?;
            }
            None => writeln!(f, "long         no call was over in time")?,
        }
        writeln!(f, "published    {}, aim 10 µs", times(&self.publish))?;
        writeln!(f, "{:<14}{:>9}  time", "", "calls")?;
        for kind in Kind::ALL {
            let all = &self.tally.of(kind).times;
            writeln!(f, "{:<14}{:>9}  {}", kind.as_str(), all.count(), times(all))?;
        }
        writeln!(f, "{:<14}{:<54}slowest over an instant without one", "", "slowest over each publication")?;
        for kind in Kind::ALL {
            let slowest = |overlaps: &Overlaps| {
                let slowest = overlaps.times();
                format!("{} of {}", times(&slowest), slowest.count())
            };
            let Count { published, marked, .. } = self.tally.of(kind);
            writeln!(f, "{:<14}{:<54}{}", kind.as_str(), slowest(published), slowest(marked))?;
        }
        Ok(())
    }
}

fn times(histogram: &Histogram) -> String {
    let within = |thousandths| histogram.within(thousandths).map_or("-".to_owned(), micros);
    format!("p50 {}, p99 {}, max {}", within(500), within(990), within(1_000))
}

fn micros(time: Duration) -> String {
    match time.as_micros() {
        0..10 => format!("{:.1} µs", time.as_nanos() as f64 / 1_000.0),
        micros @ 10..10_000 => format!("{micros} µs"),
        micros => format!("{} ms", micros / 1_000),
    }
}
