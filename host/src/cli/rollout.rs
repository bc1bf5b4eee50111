//! How `midplane apply` brings a manifest to the nodes of the mesh, at once or in waves, and says how far it came.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::apply::{APPLY, send};
use super::client::{Conversation, Target, ask, block_on};
use super::consent;
use super::output::table;
use crate::clock::{self, Instant};
use crate::decisions::backoff::Backoff;
use crate::decisions::cose;
use crate::decisions::rollout::{State, Want, settled, state};
use crate::decisions::waves::{self, FEW, Waves};
use crate::words::control::{Applied, Request};
use crate::words::count::count;
use crate::words::mesh::NodeReport;
use crate::words::objects::Manifest;
use crate::words::{Code, Digest, Fault, NodeId, Outcome};

/// Time for one look at the mesh: nodes that are away take seconds to be found so.
const LOOK: Duration = Duration::from_secs(60);
/// Pauses between two looks. What a look takes is added, so that a large mesh is not asked all the time; each look through another node is
/// an order, and of those a node remembers a thousand.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
/// Pause between two attempts to hand it to a node.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nodes that cannot be reached are waited for when all others are done.
const AWAY: Duration = Duration::from_secs(5);
/// Time for the nodes of one wave to take it, beside its probation: fetching and compiling take the most.
const WAVE: Duration = Duration::from_secs(120);
/// Time to give nodes back what they ran before.
const REVERT: Duration = Duration::from_secs(60);
/// Nodes that are handed the manifest at a time.
const HANDED: usize = 8;

/// How a manifest reaches the other nodes.
#[derive(clap::Args)]
pub(super) struct How {
    /// Do not wait for other nodes; it spreads by itself
    #[arg(long, conflicts_with_all = ["waves", "yes"])]
    no_wait: bool,
    /// How many nodes have it after each wave, or which part of them [default: 1,10%,100% from four nodes on]
    #[arg(long, value_name = "WAVES")]
    waves: Option<Waves>,
    /// Begin the first wave without asking
    #[arg(long)]
    yes: bool,
}

/// What became of it.
pub(super) struct Done {
    /// On the node that it was given to.
    pub(super) applied: Applied,
    /// Whether that was undone, because others did not fare well.
    pub(super) taken_back: bool,
    /// On every node that is known there.
    pub(super) nodes: Vec<NodeState>,
    /// Present when it is not on all of them.
    pub(super) fault: Option<Fault>,
}

/// One node.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct NodeState {
    node: NodeId,
    label: String,
    state: State,
    /// Version in force there, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// The wave that it was in, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    wave: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Brings it to the nodes.
pub(super) fn run(target: &Target, signed: Vec<u8>, how: &How, time: Option<Duration>) -> Outcome<Done> {
    if how.no_wait {
        let applied = block_on(time.or(Some(APPLY)), send(target, &signed, true))?;
        return Ok(Done { applied, taken_back: false, nodes: Vec::new(), fault: None });
    }
    let Manifest { version, probation_ms, .. } = cose::verify::<Manifest>(&signed)?.decode()?;
    let want = Want { version, digest: Digest::of(&signed) };
    let known = block_on(Some(LOOK), look(target))?;
    // Who cannot be reached now takes it when it is back, and is in no wave.
    let there = known.iter().filter(|report| report.runs.is_some());
    let own = known.iter().find(|report| report.own).map(|report| report.node);
    let own = own.ok_or_else(|| Fault::new(Code::Protocol, "the node does not say what it runs"))?;
    let order = waves::order(&own, there.map(|report| report.node).collect());
    let usual = || waves::USUAL.parse::<Waves>();
    let sizes = match &how.waves {
        None if known.len() <= FEW => vec![order.len()],
        None => usual()?.sizes(order.len()),
        Some(waves) => waves.sizes(order.len()),
    };
    let bar = bar(known.len());
    let mut rollout = Rollout { target, signed, want, own, bar, wave_of: BTreeMap::new() };
    if sizes.len() < 2 {
        return rollout.at_once(time.unwrap_or(APPLY));
    }
    let plan = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let plan = format!("manifest {version} goes to {} in waves of {plan}", count(order.len(), "node"));
    if !target.can_order() {
        return Err(Fault::new(Code::Usage, format!("{plan}, which needs the key of an operator"))
            .fix("--key FILE, or --waves 100% for all at once"));
    }
    consent::agree(&plan, how.yes)?;
    let wave = Duration::from_millis(probation_ms) + WAVE;
    rollout.in_waves(&order, &sizes, &known, (wave, time))
}

/// What a person reads of the nodes; nothing when there is only one.
pub(super) fn text(nodes: &[NodeState]) -> String {
    if nodes.len() < 2 {
        return String::new();
    }
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let label = if node.label.is_empty() { "-".to_owned() } else { node.label.clone() };
            let why = node.why.clone().unwrap_or_default();
            vec![node.node.short(), label, node.state.as_str().to_owned(), why]
        })
        .collect();
    format!("\n{}", table(&["NODE", "LABEL", "STATE", "WHY"], &rows))
}

/// What every node that is known there runs.
async fn look(target: &Target) -> Outcome<Vec<NodeReport>> {
    let mut reports = Vec::new();
    Conversation::start(target.clone(), &Request::Mesh).await?.each(|report| reports.push(report)).await?;
    reports.sort_by_key(|report: &NodeReport| (!report.own, report.node));
    Ok(reports)
}

struct Rollout<'a> {
    target: &'a Target,
    signed: Vec<u8>,
    want: Want,
    /// The node that it is given to.
    own: NodeId,
    bar: ProgressBar,
    wave_of: BTreeMap<NodeId, usize>,
}

impl Rollout<'_> {
    /// Gives it to one node, lets it spread, and looks on.
    fn at_once(&self, time: Duration) -> Outcome<Done> {
        let applied = block_on(Some(time), send(self.target, &self.signed, true))?;
        let reports = block_on(None, self.follow(clock::monotonic() + time))?;
        self.bar.finish_and_clear();
        let nodes = self.states(&reports);
        let fault = self.missing(&nodes);
        Ok(Done { applied, taken_back: false, nodes, fault })
    }

    /// Gives it to the nodes of one wave after the other, none of which passes it on, and lets it spread when all are well.
    fn in_waves(
        &mut self,
        order: &[NodeId],
        sizes: &[usize],
        before: &[NodeReport],
        (wave_time, time): (Duration, Option<Duration>),
    ) -> Outcome<Done> {
        let over = time.map(|time| clock::monotonic() + time);
        // The node that it is given to is the first to judge it. What it refuses goes nowhere.
        self.wave_of.insert(self.own, 1);
        let applied = block_on(time.or(Some(APPLY)), send(self.target, &self.signed, false))?;
        let mut rest = order;
        for (number, size) in (1..).zip(sizes) {
            let (wave, later) = rest.split_at_checked(*size).unwrap_or((rest, &[]));
            rest = later;
            self.wave_of.extend(wave.iter().map(|node| (*node, number)));
            self.bar.set_message(format!("wave {number} of {}", sizes.len()));
            let end = clock::monotonic() + wave_time;
            let end = over.map_or(end, |over| over.min(end));
            let failed = block_on(None, async { Ok(self.wave(wave, end).await.err()) })?;
            if let Some(failed) = failed {
                let wave = format!("wave {number} of {}", sizes.len());
                return self.stop(applied, &wave, &failed, before);
            }
        }
        block_on(Some(REVERT), send(self.target, &self.signed, true))?;
        let reports = block_on(None, self.follow(clock::monotonic() + WAVE))?;
        self.bar.finish_and_clear();
        let nodes = self.states(&reports);
        let fault = self.missing(&nodes);
        Ok(Done { applied, taken_back: false, nodes, fault })
    }

    /// One wave: hands it to each node, and waits until it has settled on all that have it so far.
    async fn wave(&self, nodes: &[NodeId], end: Instant) -> Result<(), (NodeId, Fault)> {
        let handed = nodes
            .iter()
            .filter(|node| **node != self.own)
            .map(|node| async move { (*node, self.hand(node, end).await) });
        // To the end, whatever fails: who is still at it would take it after the others have gone back.
        let handed: Vec<_> = stream::iter(handed).buffer_unordered(HANDED).collect().await;
        for (node, outcome) in handed {
            outcome.map_err(|fault| (node, fault))?;
        }
        let mut pauses = PAUSES;
        loop {
            let started = clock::monotonic();
            let mut missing = self.wave_of.keys().next().map(|node| (*node, "it does not answer".to_owned()));
            if let Ok(reports) = look(self.target).await {
                self.show(&reports);
                let found: BTreeSet<NodeId> = reports.iter().map(|report| report.node).collect();
                let gone = self.wave_of.keys().find(|node| !found.contains(*node));
                missing = gone.map(|node| (*node, "it is not known any more".to_owned()));
                for report in reports.iter().filter(|report| self.wave_of.contains_key(&report.node)) {
                    if !settled(&self.want, report).map_err(|fault| (report.node, fault))? {
                        let (state, why) = state(&self.want, report);
                        let why = why.unwrap_or_else(|| "it does not run it".to_owned());
                        missing = Some((report.node, format!("{} for too long: {why}", state.as_str())));
                    }
                }
            }
            let Some((node, why)) = missing else { return Ok(()) };
            if clock::monotonic() >= end {
                return Err((node, Fault::new(Code::Unreachable, why)));
            }
            tokio::time::sleep(pauses.next(0) + started.elapsed()).await;
        }
    }

    /// Hands it to one node, which may be out of reach for a moment.
    async fn hand(&self, node: &NodeId, end: Instant) -> Outcome<Applied> {
        let target = self.target.to(node);
        loop {
            let handed = tokio::time::timeout_at(end, send(&target, &self.signed, false)).await;
            match handed {
                Ok(Err(fault)) if is_away(&fault) && clock::monotonic() + AGAIN < end => {
                    tokio::time::sleep(AGAIN).await;
                }
                Ok(outcome) => return outcome,
                Err(_) => return Err(Fault::new(Code::Deadline, "no answer came in time")),
            }
        }
    }

    /// Gives those that took it back what they ran before.
    fn stop(
        &self,
        applied: Applied,
        wave: &str,
        (failed, why): &(NodeId, Fault),
        before: &[NodeReport],
    ) -> Outcome<Done> {
        self.bar.set_message("giving back what ran before");
        // What each ran before, by its number: who has not taken it runs that, and is not sent further back.
        let had = |node: &NodeId| {
            let report = before.iter().find(|report| report.node == *node)?;
            let had = !state(&self.want, report).0.is_done();
            report.runs.as_ref().filter(|_| had).map(|runs| runs.version)
        };
        let reports = block_on(Some(LOOK), look(self.target))?;
        let mut back: BTreeMap<NodeId, Outcome<Applied>> = BTreeMap::new();
        // The node that it was given to last: the others are reached through it.
        for report in reports.iter().rev().filter(|report| self.wave_of.contains_key(&report.node)) {
            let in_force = report.runs.as_ref().map(|runs| runs.digest == Some(self.want.digest));
            // Who cannot be asked may have it.
            let (true, Some(version)) = (in_force.unwrap_or(true), had(&report.node)) else { continue };
            let own = report.node == self.own;
            let target = if own { self.target.clone() } else { self.target.to(&report.node) };
            let request = Request::Rollback { version: Some(version).filter(|version| *version > 0) };
            let rolled = block_on(Some(REVERT), ask(target, &request));
            if !matches!(&rolled, Err(fault) if fault.code == Code::Usage) {
                back.insert(report.node, rolled);
            }
        }
        let reports = block_on(Some(LOOK), look(self.target))?;
        self.bar.finish_and_clear();
        let mut nodes = self.states(&reports);
        for node in &mut nodes {
            match back.get(&node.node) {
                Some(Ok(applied)) => {
                    let why = format!("generation {} is in force there again", applied.to);
                    (node.state, node.why) = (State::Reverted, Some(why));
                }
                _ if node.node == *failed && node.state == State::Waiting => {
                    (node.state, node.why) = (State::Refused, Some(why.to_string()));
                }
                Some(Err(fault)) => {
                    node.why = Some(format!("it could not be given back what it ran: {fault}"))
                }
                None if !self.wave_of.contains_key(&node.node) && !node.state.is_done() => {
                    (node.state, node.why) = (State::Untouched, None);
                }
                None => {}
            }
        }
        let reverted = nodes.iter().filter(|node| node.state == State::Reverted).count();
        let what = format!(
            "{wave} failed on {}: {}; what ran before runs again on {} that took it",
            failed.short(),
            why.what,
            count(reverted, "node")
        );
        let fault = Fault::new(Code::PartlyDone, what)
            .fix("the next version that is applied ends the hold; `midplane --on NODE logs` says more");
        Ok(Done { applied, taken_back: true, nodes, fault: Some(fault) })
    }

    /// Looks until it is clear what becomes of it on each node, or until the time is over.
    async fn follow(&self, end: Instant) -> Outcome<Vec<NodeReport>> {
        let (mut away, mut pauses): (Option<Instant>, _) = (None, PAUSES);
        loop {
            let started = clock::monotonic();
            let reports = look(self.target).await?;
            self.show(&reports);
            let is = |wanted| reports.iter().any(|report| state(&self.want, report).0 == wanted);
            let now = clock::monotonic();
            match (is(State::Waiting), is(State::Queued)) {
                (false, false) => return Ok(reports),
                (false, true) if now >= *away.get_or_insert(now) + AWAY => return Ok(reports),
                (false, true) => {}
                (true, _) => away = None,
            }
            if now >= end {
                return Ok(reports);
            }
            tokio::time::sleep(pauses.next(0) + started.elapsed()).await;
        }
    }

    fn show(&self, reports: &[NodeReport]) {
        let done = reports.iter().filter(|report| state(&self.want, report).0.is_done()).count();
        self.bar.set_length(reports.len() as u64);
        self.bar.set_position(done as u64);
    }

    fn states(&self, reports: &[NodeReport]) -> Vec<NodeState> {
        let one = |report: &NodeReport| {
            let (state, why) = state(&self.want, report);
            let generation = report.runs.as_ref().map(|runs| runs.version);
            let wave = self.wave_of.get(&report.node).copied();
            NodeState { node: report.node, label: report.label.clone(), state, generation, wave, why }
        };
        reports.iter().map(one).collect()
    }

    /// The failure when it is not on all nodes.
    fn missing(&self, nodes: &[NodeState]) -> Option<Fault> {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for node in nodes.iter().filter(|node| !node.state.is_done()) {
            *states.entry(node.state.as_str()).or_default() += 1;
        }
        let missing: Vec<String> = states.iter().map(|(state, nodes)| format!("{nodes} {state}")).collect();
        let done = nodes.iter().filter(|node| node.state.is_done()).count();
        let what = format!(
            "manifest {} is in force on {done} of {}: {}",
            self.want.version,
            count(nodes.len(), "node"),
            missing.join(", ")
        );
        let fix = "nodes that are queued take it when they are back; `midplane --on NODE status` says more of others";
        (!missing.is_empty()).then(|| Fault::new(Code::PartlyDone, what).fix(fix))
    }
}

/// Whether the node was not reached, and may be later.
fn is_away(fault: &Fault) -> bool {
    matches!(fault.code, Code::Unreachable | Code::LinkLost | Code::NoRoute | Code::Busy)
}

/// A bar on standard error; on anything but a terminal it shows nothing.
fn bar(nodes: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} nodes {msg}");
    ProgressBar::new(nodes as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
