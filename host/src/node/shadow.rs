//! A policy that is tried in the shadow of the one in force. Nothing of it is kept but a lease on its component.

use super::answer::{Reader, Writer};
use super::control::REPORT_MAX;
use super::generation::Runs;
use super::prepare::Prepared;
use super::swap::{self, Taken};
use super::{Node, slots};
use crate::clock;
use crate::log::Level;
use crate::policy::recorder::{self, Tape};
use crate::policy::shadow::{self, Running};
use crate::words::objects::swap::Mode;
use crate::words::objects::{Kind, Plugin};
use crate::words::swap::{ShadowReport, ShadowTold};
use crate::words::{Code, Digest, Fault, Outcome, note};

/// Runs the component of a signed swap in the shadow of its slot for this long, or until whoever asked has enough, and says what came of it.
pub async fn answer(
    node: &Node,
    signed: &[u8],
    time_ms: u64,
    examples: u32,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Outcome<()> {
    let _place = node.recordings.place(node, time_ms)?;
    let taken =
        swap::take(node, signed, Mode::Shadow).await.inspect_err(|fault| swap::refused(node, fault))?;
    let deadline = clock::deadline_in(time_ms);
    let examples = usize::try_from(examples).unwrap_or(usize::MAX);
    let began = clock::monotonic();
    let (mut running, active_component) = start(node, &taken, deadline, examples).await?;
    let slot = &taken.entry.slot;
    let component = taken.entry.component.digest;
    let text = format!("{slot} begins anew, with component {} in its shadow", component.short());
    node.log.host(Level::Info, &text);
    writer.item(&note::write("beginning", &ShadowTold::Began, REPORT_MAX)?).await?;
    let over = tokio::select! {
        biased;
        over = running.over() => over?,
        () = reader.hung_up() => {
            running.stop();
            running.over().await?
        }
    };
    let why = over.ended.as_str();
    node.log.host(
        Level::Info,
        &format!("component {} is not in the shadow of {slot} any more: {why}", component.short()),
    );
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (slot, ended, found) = (slot.clone(), over.ended, over.found);
    let report = ShadowReport { slot, component, active_component, ended, took_ms, found };
    writer.last(&note::write("report", &ShadowTold::Over(Box::new(report)), REPORT_MAX)?).await
}

/// Has the slot begin anew, with somebody who listens. What runs there is told too.
async fn start(
    node: &Node,
    taken: &Taken,
    deadline: clock::Instant,
    examples: usize,
) -> Outcome<(Running, Digest)> {
    let slot = &taken.entry.slot;
    let Prepared::Policy(_, program) = &taken.prepared else {
        let what = format!("{slot} is a {}; policies are what can have a shadow", taken.entry.kind);
        return Err(Fault::new(Code::Usage, what).fix("--canary 10% for skills and gateways"));
    };
    let generation = node.generation.load_full();
    let installed = generation.plugins.get(slot);
    let Some((active, Runs::Policy(policy))) = installed.map(|installed| (&installed.entry, &installed.runs))
    else {
        return Err(Fault::new(Code::NotFound, format!("{slot} does not run")));
    };
    let (recorder, tape) = recorder::feed();
    // The thread is there before anything is told.
    let running = listen(&taken.entry, program.clone(), tape, deadline, examples)?;
    slots::record(node, active, policy, recorder).await?;
    Ok((running, active.component.digest))
}

fn listen(
    entry: &Plugin,
    program: crate::policy::machine::Program,
    tape: Tape,
    deadline: clock::Instant,
    examples: usize,
) -> Outcome<Running> {
    match entry.kind {
        Kind::Discovery => shadow::discovery(program, tape, deadline, examples),
        Kind::Admission => shadow::admission(program, tape, deadline, examples),
        Kind::Routing => shadow::routing(program, tape, deadline, examples),
        Kind::Sync => shadow::sync(program, tape, deadline, examples),
        kind @ (Kind::Skill | Kind::Gateway) => {
            Err(Fault::new(Code::Internal, format!("a {kind} is not a policy")))
        }
    }
}
