//! A workload that is tried with a share of the calls of the one in force, and takes its place when it does as well.
//!
//! The candidate sits beside the active one ([`Seat`]); a call looks whether the seat is taken, and nothing else is measured or decided while
//! it is not. Whatever is put in force in the meantime ends it: what is published anew has empty seats. Nothing is written down
//! before the candidate is promoted, so a restart leaves the active one alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{Request as HttpRequest, Response};
use http_body_util::BodyExt;
use wasmtime_wasi_http::WasiBody;

use super::answer::{Reader, Writer};
use super::control::REPORT_MAX;
use super::generation::Installed;
use super::prepare::Prepared;
use super::swap::{self, Taken};
use super::{Node, NodeInner};
use crate::clock::{self, Instant};
use crate::decisions::canary::{self, Seen, Verdict, blames, percent, to_candidate};
use crate::log::Level;
use crate::wasm::gateway::{Gateway, Place};
use crate::wasm::workload::{Answer, Request, Workload};
use crate::words::objects::Plugin;
use crate::words::objects::swap::Mode;
use crate::words::swap::{CanaryReport, CanaryTerms, CanaryTold, Sides};
use crate::words::{Code, Digest, Fault, Outcome, note};

/// How often it is judged.
const LOOK: Duration = Duration::from_millis(100);
/// How often whoever asked hears how it stands.
const TELL: Duration = Duration::from_secs(1);
/// Time for whoever asked to take that. Who does not is gone, and that ends it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a candidate sits beside a plugin that runs.
#[derive(Default)]
pub struct Seat {
    taken: AtomicBool,
    canary: ArcSwapOption<Canary>,
}

impl Seat {
    /// The canary, if there is one. The one thing that a call pays for while there is none.
    pub fn canary(&self) -> Option<Arc<Canary>> {
        if !self.taken.load(Ordering::Relaxed) {
            return None;
        }
        self.canary.load_full()
    }

    fn is_of(&self, canary: &Arc<Canary>) -> bool {
        self.canary().is_some_and(|own| Arc::ptr_eq(&own, canary))
    }

    /// Takes the seat, unless somebody sits there.
    fn take(&self, canary: &Arc<Canary>) -> bool {
        let before = self.canary.compare_and_swap(&None::<Arc<Canary>>, Some(canary.clone()));
        let free = before.is_none();
        if free {
            self.taken.store(true, Ordering::Relaxed);
        }
        free
    }

    fn leave(&self) {
        self.taken.store(false, Ordering::Relaxed);
        self.canary.store(None);
    }
}

/// A candidate that gets its share.
pub struct Canary {
    candidate: Candidate,
    component: Digest,
    share: u32,
    calls: AtomicU64,
    active: Mutex<Seen>,
    tried: Mutex<Seen>,
}

enum Candidate {
    Skill(Arc<Workload>),
    Gateway(Arc<Gateway>),
}

impl Canary {
    /// Makes a call with the one or the other; answers which component that was.
    pub async fn call(
        self: Arc<Self>,
        active: &Arc<Workload>,
        component: Digest,
        request: Request<'_>,
    ) -> (Outcome<Answer>, Digest) {
        let (tried, workload, component) = match &self.candidate {
            Candidate::Skill(candidate) if self.next() => (true, candidate, self.component),
            _ => (false, active, component),
        };
        let began = clock::monotonic();
        let called = workload.call(request).await;
        let blame = called.as_ref().err().is_some_and(|fault| blames(fault.code));
        self.with(tried, |seen| seen.call(ns(began), blame));
        let called = called.map(|answer| match answer {
            Answer::Stream(items) => {
                let canary = self.clone();
                Answer::Stream(items.on_fault(Box::new(move |fault| {
                    if blames(fault.code) {
                        canary.with(tried, Seen::broke);
                    }
                })))
            }
            value @ Answer::Value(_) => value,
        });
        (called, component)
    }

    /// Which one answers a request, and whether that is the candidate.
    pub fn choose(&self, active: Arc<Gateway>) -> (bool, Arc<Gateway>) {
        match &self.candidate {
            Candidate::Gateway(candidate) if self.next() => (true, candidate.clone()),
            _ => (false, active),
        }
    }

    /// Answers a request with the one that was chosen, which has a place for it.
    pub async fn handle(
        self: Arc<Self>,
        tried: bool,
        gateway: &Arc<Gateway>,
        place: Place,
        request: HttpRequest<WasiBody>,
    ) -> Outcome<Response<WasiBody>> {
        let began = clock::monotonic();
        let answered = gateway.handle(place, request).await;
        let blame = match &answered {
            Ok(answer) => answer.status().is_server_error(),
            // What a client hears is 502.
            Err(fault) => blames(fault.code) || fault.code == Code::Application,
        };
        self.with(tried, |seen| seen.call(ns(began), blame));
        answered.map(|answer| {
            answer.map(|body| {
                let broke = move |error| {
                    self.with(tried, Seen::broke);
                    error
                };
                body.map_err(broke).boxed_unsync()
            })
        })
    }

    fn next(&self) -> bool {
        to_candidate(self.calls.fetch_add(1, Ordering::Relaxed), self.share)
    }

    fn with(&self, tried: bool, change: impl FnOnce(&mut Seen)) {
        let seen = if tried { &self.tried } else { &self.active };
        change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn sides(&self) -> Sides {
        let side = |seen: &Mutex<Seen>| seen.lock().unwrap_or_else(PoisonError::into_inner).side();
        Sides { active: side(&self.active), candidate: side(&self.tried) }
    }
}

fn ns(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A canary in its seat. Dropping it gives all calls back to the active one; those that are in flight end where they are.
struct Seated {
    canary: Arc<Canary>,
    beside: Arc<Installed>,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.beside.canary.leave();
    }
}

impl Seated {
    /// Whether its calls are those of the slot: nothing was published since.
    fn is_in_force(&self, node: &NodeInner, slot: &str) -> bool {
        let generation = node.generation.load();
        generation.plugins.get(slot).is_some_and(|now| now.canary.is_of(&self.canary))
    }
}

/// Tries the component of a signed swap, and promotes it or does not.
pub async fn answer(
    node: &Node,
    signed: &[u8],
    terms: CanaryTerms,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Outcome<()> {
    canary::check(&terms)?;
    let taken =
        swap::take(node, signed, Mode::Canary).await.inspect_err(|fault| swap::refused(node, fault))?;
    let (slot, component) = (taken.entry.slot.clone(), taken.entry.component.digest);
    let seated = seat(node, &taken, &terms)?;
    let before = seated.beside.entry.component.digest;
    let began = clock::monotonic();
    let share = percent(terms.share);
    node.log
        .host(Level::Info, &format!("component {} gets {share} of the calls of {slot}", component.short()));
    tell(writer, &CanaryTold::Began).await?;
    let mut verdict = tokio::select! {
        biased;
        () = reader.hung_up() => Verdict::Revert("whoever asked for it was interrupted or is gone".to_owned()),
        verdict = try_it(node, &seated, &slot, &terms, began, writer) => verdict,
    };
    let sides = seated.canary.sides();
    let mut done = None;
    if let Verdict::Promote(_) = verdict {
        match swap::promote(node, signed).await {
            Ok(promoted) => done = Some(promoted),
            Err(fault) => {
                swap::refused(node, &fault);
                verdict = Verdict::Revert(format!("it could not be put in force: {fault}"));
            }
        }
    }
    drop(seated);
    let (Verdict::Promote(why) | Verdict::Revert(why)) = verdict else {
        return Err(Fault::new(Code::Internal, "a canary ended and was not judged"));
    };
    let promoted = done.is_some();
    let word = if promoted { "is promoted" } else { "is reverted" };
    node.log.host(Level::Info, &format!("component {} of {slot} {word}: {why}", component.short()));
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = CanaryReport { slot, component, before, promoted, why, took_ms, sides, done };
    writer.last(&note::write("report", &CanaryTold::Over(report), REPORT_MAX)?).await
}

/// Gives the candidate its share from here on.
fn seat(node: &NodeInner, taken: &Taken, terms: &CanaryTerms) -> Outcome<Seated> {
    let slot = &taken.entry.slot;
    let candidate = match &taken.prepared {
        Prepared::Skill(_, workload) => Candidate::Skill(workload.clone()),
        Prepared::Gateway(_, gateway) => Candidate::Gateway(gateway.clone()),
        Prepared::Policy(..) | Prepared::Unchanged(_) => {
            let what = format!("{slot} is a policy; skills and gateways are what has calls");
            return Err(Fault::new(Code::Usage, what).fix("--shadow 60s for policies"));
        }
    };
    let canary = Arc::new(Canary {
        candidate,
        component: taken.entry.component.digest,
        share: terms.share,
        calls: AtomicU64::new(0),
        active: Mutex::default(),
        tried: Mutex::default(),
    });
    let beside = node.generation.load().plugins.get(slot).cloned();
    let beside = beside.ok_or_else(|| Fault::new(Code::NotFound, format!("{slot} does not run")))?;
    if (Plugin { component: taken.entry.component, ..beside.entry.clone() }) != taken.entry {
        let what = format!("{slot} has another entry now than when it was prepared");
        return Err(Fault::new(Code::StaleVersion, what).fix("run the command again"));
    }
    if !beside.canary.take(&canary) {
        return Err(Fault::new(Code::Busy, format!("another component is tried in {slot} already")));
    }
    Ok(Seated { canary, beside })
}

/// Looks how it does until there is a verdict.
async fn try_it(
    node: &NodeInner,
    seated: &Seated,
    slot: &str,
    terms: &CanaryTerms,
    began: Instant,
    writer: &mut Writer,
) -> Verdict {
    let deadline = began + Duration::from_millis(terms.time_ms);
    let mut told = began;
    loop {
        let next = (clock::monotonic() + LOOK).min(deadline);
        tokio::time::sleep_until(next).await;
        if !seated.is_in_force(node, slot) {
            return Verdict::Revert("something else was put in force meanwhile".to_owned());
        }
        let sides = seated.canary.sides();
        let now = clock::monotonic();
        match canary::judge(terms, &sides.active, &sides.candidate, now >= deadline) {
            Verdict::GoOn => {}
            verdict => return verdict,
        }
        if now.saturating_duration_since(told) >= TELL {
            told = now;
            if tell(writer, &CanaryTold::Progress(sides)).await.is_err() {
                return Verdict::Revert("whoever asked for it is gone".to_owned());
            }
        }
    }
}

async fn tell(writer: &mut Writer, told: &CanaryTold) -> Outcome<()> {
    let item = note::write("progress", told, REPORT_MAX)?;
    let late = || Fault::new(Code::Deadline, "whoever asked does not listen");
    tokio::time::timeout(PATIENCE, writer.item(&item)).await.unwrap_or_else(|_| Err(late()))
}
