//! A component that is tried beside the active one, and what came of it.

use std::io::Write;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use super::{Swap, ms};
use crate::cli::Global;
use crate::cli::apply::APPLY;
use crate::cli::client::{Conversation, Target, block_on};
use crate::net::Piece;
use crate::node::control::REPORT_MAX;
use crate::words::control::Request;
use crate::words::count::count;
use crate::words::note::{self, decode_fault};
use crate::words::objects::swap::Mode;
use crate::words::swap::{
    CanaryReport, CanaryTerms, CanaryTold, Example, ShadowReport, ShadowTold, Side, Sides, SwapRequest,
};
use crate::words::{Code, Fault, Outcome};

/// Time for the last word after ctrl-c.
const LAST: Duration = Duration::from_secs(30);
/// The exit code of a canary that was reverted: refused by policy.
const REVERTED: u8 = 3;

/// Runs a policy in the shadow and shows what was different. Whatever that is, it is no failure, if the shadow was as long as it was
/// meant to be.
pub(super) fn shadow(swap: &Swap, global: &Global, target: &Target, time: Duration) -> Outcome<u8> {
    let request = SwapRequest::Shadow { time_ms: ms(time), examples: swap.examples };
    let text = format!("component is in the shadow of {}; ctrl-c ends it", swap.slot);
    let report: Box<ShadowReport> = block_on(None, async {
        let mut trial = Trial::start(swap, global, target, Mode::Shadow, request).await?;
        loop {
            match trial.next().await? {
                ShadowTold::Began => began(global, &swap.slot, &text),
                ShadowTold::Over(report) => return Ok(report),
            }
        }
    })?;
    global.out().report(&report, |report| shadow_text(report));
    Ok(if report.ended.is_whole() { 0 } else { 1 })
}

/// Gives a workload its share until it is promoted or reverted.
pub(super) fn canary(swap: &Swap, global: &Global, target: &Target, terms: CanaryTerms) -> Outcome<u8> {
    let text = format!("component gets its share of {}; ctrl-c reverts it", swap.slot);
    let report: CanaryReport = block_on(None, async {
        let mut trial = Trial::start(swap, global, target, Mode::Canary, SwapRequest::Canary(terms)).await?;
        loop {
            match trial.next().await? {
                CanaryTold::Began => began(global, &swap.slot, &text),
                CanaryTold::Progress(sides) => progress(global, &sides),
                CanaryTold::Over(report) => return Ok(report),
            }
        }
    })?;
    global.out().report(&report, canary_text);
    Ok(if report.promoted { 0 } else { REVERTED })
}

/// A trial that goes on, and the means to end it.
struct Trial {
    conversation: Conversation,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    ends: bool,
}

impl Trial {
    async fn start(
        swap: &Swap,
        global: &Global,
        target: &Target,
        mode: Mode,
        request: SwapRequest,
    ) -> Outcome<Self> {
        let fail = |error: std::io::Error| Fault::io("cannot listen for signals", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        let begin = async {
            let signed = swap.prepare(global, target, mode).await?;
            Conversation::start_with(target.clone(), &Request::Swap(request), &signed).await
        };
        let patience = global.timeout.unwrap_or(APPLY);
        let late = || {
            let what = format!("no answer in {}", humantime::format_duration(patience));
            Fault::new(Code::Deadline, what).fix("--timeout gives more time")
        };
        let early = || Fault::new(Code::Cancelled, "interrupted before it began");
        let conversation = tokio::select! {
            biased;
            _ = interrupt.recv() => return Err(early()),
            _ = terminate.recv() => return Err(early()),
            begun = tokio::time::timeout(patience, begin) => begun.unwrap_or_else(|_| Err(late()))?,
        };
        Ok(Self { conversation, interrupt, terminate, ends: false })
    }

    /// What the node says next. After ctrl-c that is its last word.
    async fn next<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        if !self.ends {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                piece = self.conversation.piece() => return told(piece?),
            }
            self.ends = true;
            // The node hears that nobody asks for more, and says what came of it.
            self.conversation.writer.finish().await?;
        }
        let late = || Fault::new(Code::Deadline, "the node did not say what came of it");
        told(tokio::time::timeout(LAST, self.conversation.piece()).await.unwrap_or_else(|_| Err(late()))?)
    }
}

fn told<T: DeserializeOwned>(piece: Piece) -> Outcome<T> {
    match piece {
        Piece::Item(bytes) => note::read("report", &bytes, REPORT_MAX),
        Piece::Error(bytes) => Err(decode_fault(&bytes)),
        _ => Err(Fault::new(Code::Protocol, "the node ended without a report")),
    }
}

/// For whoever waits; the report alone is the command's output.
fn began(global: &Global, slot: &str, text: &str) {
    let _ = if global.out().is_json() {
        writeln!(std::io::stderr(), "{}", serde_json::json!({ "began": slot }))
    } else {
        writeln!(std::io::stderr(), "{text}")
    };
}

fn progress(global: &Global, sides: &Sides) {
    let _ = if global.out().is_json() {
        writeln!(std::io::stderr(), "{}", serde_json::json!({ "progress": sides }))
    } else {
        let line = |side: &Side| {
            format!(
                "{}, {}, p50 {}, p99 {}",
                count(side.calls, "call"),
                faults(side),
                us(side.p50_ns),
                us(side.p99_ns)
            )
        };
        writeln!(std::io::stderr(), "candidate {}; active {}", line(&sides.candidate), line(&sides.active))
    };
}

fn faults(side: &Side) -> String {
    count(side.faults, "fault")
}

/// A time for people.
fn us(ns: u64) -> String {
    format!("{}.{} µs", ns / 1000, ns % 1000 / 100)
}

fn both(lines: &mut Vec<String>, active: &Side, candidate: &Side) {
    for (word, side) in [("active", active), ("candidate", candidate)] {
        let mut line = format!(
            "  {word:<10} {}, {}, p50 {}, p99 {}",
            count(side.calls, "call"),
            faults(side),
            us(side.p50_ns),
            us(side.p99_ns)
        );
        if let Some(fuel) = side.fuel {
            line += &format!(", fuel {fuel}");
        }
        lines.push(line);
    }
}

fn canary_text(report: &CanaryReport) -> String {
    let CanaryReport { slot, component, before, .. } = report;
    let mut lines = vec![if report.promoted {
        format!(
            "{slot} runs component {}; before it ran {}: {}",
            component.short(),
            before.short(),
            report.why
        )
    } else {
        format!("{slot} runs component {} as before: {}", before.short(), report.why)
    }];
    both(&mut lines, &report.sides.active, &report.sides.candidate);
    if report.promoted {
        lines.push("  the next manifest ends it, or `midplane rollback`".to_owned());
    }
    lines.join("\n")
}

fn shadow_text(report: &ShadowReport) -> String {
    let found = &report.found;
    let mut lines = vec![format!(
        "component {} in the shadow of {} ({}): {} equal, {} different",
        report.component.short(),
        report.slot,
        report.active_component.short(),
        found.equal,
        found.different
    )];
    lines.push(format!("  ended      {}, after {} ms", report.ended.as_str(), report.took_ms));
    both(&mut lines, &found.active, &found.candidate);
    for (number, what) in [
        (found.only_active, "that only the active one had: timers, and outcomes of what only it asked for"),
        (found.only_candidate, "that only the candidate had: timers"),
        (found.unanswered, "that the candidate waits for in vain: it asked for something else"),
        (found.missed, "that the candidate missed: it did not keep up"),
    ] {
        if number > 0 {
            lines.push(format!("  {:<10} {what}", number));
        }
    }
    if found.without_state {
        lines.push("  it could not read the state of the active one, and started without".to_owned());
    }
    if let Some(fault) = &found.last_fault {
        lines.push(format!("  last fault {fault}"));
    }
    lines.extend(found.examples.iter().map(difference));
    lines.join("\n")
}

fn difference(example: &Example) -> String {
    let Example { call, function, now, arguments, effect, active, candidate } = example;
    let effect = effect.map(|effect| format!(", effect {effect}")).unwrap_or_default();
    format!(
        "different  call {call}, {function} at {now}{effect}\n  arguments  {arguments}\n  active     {active}\n  candidate  {candidate}"
    )
}
