//! Everything that runs on two linked nodes is replaced again and again while they are called; what that does to the calls.

pub mod callers;
mod http;
mod ledger;
pub mod pair;
pub mod socket;
pub mod stamps;
mod summary;
pub mod tally;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use midplane::clock::{self, Instant};
use midplane::words::control::Applied;
use midplane::words::{Fault, Outcome};

use self::callers::{Callers, Load};
use self::ledger::Ledger;
use self::pair::{NODES, Pair};
use self::tally::{Histogram, Tally};
use self::versions::{Bad, Version, bad, traps_in_use, versions};
use crate::guests::held;

pub use self::summary::{Phase, Summary};

/// Time from one mark to the next while nothing is replaced.
const MARKS: Duration = Duration::from_millis(50);
/// Time for memory to come to rest.
const REST: Duration = Duration::from_secs(20);
/// Memory is at rest when it changes by less than this in a while.
const STILL: u64 = 512 << 10;

/// What is to be done.
pub struct Plan {
    /// Versions that take turns.
    pub versions: usize,
    /// Who calls, and for how long: first so long without swaps, and then with swaps until each kind was replaced so often.
    pub phases: Vec<(&'static str, Callers, Duration, u64)>,
    /// Time from one change to the next.
    pub every: Duration,
    /// What takes turns with good versions.
    pub turns: Turns,
    /// The probation of each version.
    pub probation: &'static str,
    /// How often each version takes its turn, at the same pace and while callers work, before anything is counted: what serves two generations
    /// at once is there then.
    pub warm: usize,
}

/// One change in so many is of this sort; of several sorts the first counts.
#[derive(Clone, Copy)]
pub struct Turns {
    /// Routing that traps in use, so that the nodes go back by themselves. The next one has to be good.
    pub returns: u64,
    /// A manifest that must be refused.
    pub bad: u64,
    /// A rollback.
    pub back: u64,
}

/// Does it, and says how it went on, a line at a time.
///
/// # Errors
/// What the nodes say that cannot be set up, or refuse what is good.
pub async fn run(plan: &Plan, mut say: impl FnMut(&str)) -> Outcome<Summary> {
    let versions = versions(plan.versions, plan.probation);
    let mut pair = Pair::start().await?;
    say("two nodes run; each version is compiled once");
    let warm = load(&pair, &versions, Ledger::default());
    let mut applied = Vec::new();
    for version in 0..versions.len() {
        applied = pair.apply(&versions, version, &warm.ledger).await?;
    }
    pair.have_lived(&applied);
    pair.ready().await;
    let Some((_, callers, _, _)) = plan.phases.first() else { return Err(nothing()) };
    let tasks = warm.start(callers);
    for version in (0..plan.warm).flat_map(|_| 0..versions.len()) {
        pair.apply(&versions, version, &warm.ledger).await?;
        tokio::time::sleep(plan.every).await;
    }
    finish(&warm, tasks).await;
    let mut ledger = Some(Arc::into_inner(warm).ok_or_else(nothing)?.ledger);
    let mut summary = Summary { before: rest().await, ..Summary::default() };
    let bad = bad(&versions[0]);
    let mut driver = Driver { ticks: 0, bads: 0, turns: plan.turns, bad, versions };
    for (name, callers, alone, swaps) in &plan.phases {
        say(&format!("{name}: {} s without swaps, then {swaps} swaps of each kind", alone.as_secs()));
        let load = load(&pair, &driver.versions, ledger.take().ok_or_else(nothing)?);
        let tasks = load.start(callers);
        let mut phase = Phase { name, ..Phase::default() };
        let quiet = Measure::start(&load.tally);
        for _ in 0..alone.div_duration_f64(MARKS) as u32 {
            tokio::time::sleep(MARKS).await;
            load.tally.mark();
        }
        (phase.calls_alone, _) = quiet.end(&load.tally);
        let busy = Measure::start(&load.tally);
        let mut next = clock::monotonic();
        while phase.fewest_swaps() < *swaps {
            let failed = load.tally.wrongs(tally::Wrong::Failed);
            let what = driver.tick(&mut pair, &load, &mut phase).await?;
            next += plan.every;
            tokio::time::sleep_until(next).await;
            let failed = load.tally.wrongs(tally::Wrong::Failed) - failed;
            if failed > 0 {
                say(&format!("{name}: {failed} calls failed at {what}, change {}", driver.ticks));
            }
            if driver.ticks.is_multiple_of(20) {
                let (failed, swapped) = (load.tally.wrongs(tally::Wrong::Failed), phase.fewest_swaps());
                say(&format!(
                    "{name}: {swapped} swaps of each kind, {} calls, {failed} failed",
                    load.tally.calls()
                ));
            }
        }
        (phase.calls_swapping, phase.idle) = busy.end(&load.tally);
        finish(&load, tasks).await;
        phase.memory = rest().await;
        let (fewest, most) = (load.fewest.load(Ordering::Relaxed), load.most.load(Ordering::Relaxed));
        phase.long_over = (fewest <= most).then_some(fewest..=most);
        phase.tally = load.tally.clone();
        summary.phases.push(phase);
        ledger = Some(Arc::into_inner(load).ok_or_else(nothing)?.ledger);
    }
    summary.after = summary.phases.last().map_or(0, |phase| phase.memory);
    pair.stop().await;
    Ok(summary)
}

fn load(pair: &Pair, versions: &[Version], ledger: Ledger) -> Arc<Load> {
    let stamps = versions.iter().flat_map(|version| {
        (0..NODES).flat_map(|node| version.served(node)).map(|(_, digest)| (digest, version.stamp))
    });
    Arc::new(Load {
        nodes: pair.nodes.clone(),
        ledger,
        tally: Arc::new(Tally::default()),
        swaps: AtomicU64::new(0),
        fewest: AtomicU64::new(u64::MAX),
        most: AtomicU64::new(0),
        stamps: stamps.collect(),
        stop: AtomicBool::new(false),
    })
}

fn nothing() -> Fault {
    Fault::new(midplane::words::Code::Internal, "the callers are still there")
}

/// Lets every caller come to its end.
async fn finish(load: &Load, mut tasks: tokio::task::JoinSet<()>) {
    load.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a caller does not panic");
    }
}

/// Memory that this process holds, once it does not change any more.
async fn rest() -> u64 {
    let give_up = clock::monotonic() + REST;
    let mut before = held();
    loop {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let now = held();
        if now.abs_diff(before) < STILL || clock::monotonic() > give_up {
            return now;
        }
        before = now;
    }
}

/// Calls a second, and cores that had nothing to do.
struct Measure {
    since: Instant,
    calls: u64,
    idle: u64,
    all: u64,
}

impl Measure {
    fn start(tally: &Tally) -> Self {
        let (idle, all) = processors();
        Self { since: clock::monotonic(), calls: tally.calls(), idle, all }
    }

    fn end(self, tally: &Tally) -> (f64, f64) {
        let (idle, all) = processors();
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let idle = (idle - self.idle) as f64 / (all - self.all).max(1) as f64 * cores;
        ((tally.calls() - self.calls) as f64 / self.since.elapsed().as_secs_f64(), idle)
    }
}

/// Ticks of all cores: without work, and all.
fn processors() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    (ticks.iter().skip(3).take(2).sum(), ticks.iter().take(8).sum())
}

/// Who replaces everything.
struct Driver {
    ticks: u64,
    bads: usize,
    turns: Turns,
    versions: Vec<Version>,
    bad: Vec<Bad>,
}

impl Driver {
    /// The next version, what ran before, or one that must be refused.
    async fn tick(&mut self, pair: &mut Pair, load: &Load, phase: &mut Phase) -> Outcome<&'static str> {
        self.ticks += 1;
        if self.ticks.is_multiple_of(self.turns.returns) {
            self.returns(pair, load, phase).await?;
            return Ok("a return");
        }
        if self.ticks.is_multiple_of(self.turns.bad) {
            self.bads += 1;
            let bad = &self.bad[self.bads % self.bad.len()];
            let before = pair.running();
            // Not in the ledger: nobody may ever hear it.
            let refused = pair.apply(std::slice::from_ref(&bad.version), 0, &Ledger::default()).await;
            let code = refused.as_ref().err().map(|fault| fault.code);
            if code != Some(bad.code) || pair.running() != before {
                phase.unrefused.push(format!("{}: {refused:?}", bad.what));
            }
            *phase.refused.entry(bad.what).or_default() += 1;
            return Ok(bad.what);
        }
        let back = self.ticks.is_multiple_of(self.turns.back);
        let applied = if back {
            phase.back += 1;
            let mut all = Vec::new();
            for node in 0..NODES {
                all.push(pair.rollback(node, &self.versions, &load.ledger).await?);
            }
            all
        } else {
            self.forward(pair, load).await?
        };
        phase.count(&applied, load);
        Ok(if back { "a rollback" } else { "a good version" })
    }

    /// The next version.
    async fn forward(&self, pair: &mut Pair, load: &Load) -> Outcome<Vec<Applied>> {
        let next = (pair.in_force(0) + 1) % self.versions.len();
        pair.apply(&self.versions, next, &load.ledger).await
    }

    /// A version whose routing traps whenever it is asked, after one that has settled. Calls go on by the plans of that one, until each
    /// node is back at it.
    async fn returns(&mut self, pair: &mut Pair, load: &Load, phase: &mut Phase) -> Outcome<()> {
        phase.count(&self.forward(pair, load).await?, load);
        let settled = pair.settled().await;
        let before = pair.in_force(0);
        let bad = traps_in_use(&self.versions[(before + 1) % self.versions.len()]);
        let applied = pair.apply(std::slice::from_ref(&bad), 0, &load.ledger).await?;
        phase.count(&applied, load);
        let is_back = pair.returns(&self.versions, before, &load.ledger).await;
        if is_back == NODES {
            phase.swapped(&applied, load);
        }
        phase.returned += is_back as u64;
        if settled < NODES || is_back < NODES {
            let what = format!("routing that traps in use: {settled} nodes had settled, {is_back} are back");
            phase.unrefused.push(what);
        }
        Ok(())
    }
}

impl Phase {
    fn count(&mut self, applied: &[Applied], load: &Load) {
        applied.iter().for_each(|applied| self.publish.add(Duration::from_micros(applied.publish_us.max(1))));
        self.swapped(applied, load);
    }

    /// All slots that were changed have something else.
    fn swapped(&mut self, applied: &[Applied], load: &Load) {
        for applied in applied {
            for slot in &applied.changed {
                let kind = slot.split('/').next().unwrap_or(slot).to_owned();
                *self.swaps.entry(kind).or_default() += 1;
            }
            load.swaps.fetch_add(applied.changed.len() as u64, Ordering::Relaxed);
        }
    }
}

/// By kind of plugin.
pub type Swaps = BTreeMap<String, u64>;
/// Times of publications.
pub type Published = Histogram;
