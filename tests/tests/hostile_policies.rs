//! Policies that do harm: each ends by its own limit, under its own name, in time and within its memory; its slot goes on with what was
//! saved before, and nobody else notices.

use std::collections::BTreeSet;
use std::time::Instant;

use midplane::policy::machine::{Machine, Program};
use midplane::policy::routing::{Choice, Event, Routing};
use midplane::policy::slot::{Heritage, Slot, Successor};
use midplane::policy::types::BaseEvent;
use midplane::words::objects::{Handover, Kind};
use midplane::words::{Code, Fault, Outcome};
use midplane_tests::cage::policies::{ANSWERING, HANDLING, Harm, SAVING, SHAPES, TAKING_OVER};
use midplane_tests::cage::{Cage, Cost, GRACE, SLACK};
use midplane_tests::guests::{Bench, hostile, until};
use midplane_tests::policies::{Acts, Watch, acting, decide, kept, link, message, program, seated, setup};

/// Memory of a policy.
const MEMORY: u64 = 64 << 20;

/// What is not as it should have been about an end.
fn wrong(harm: &Harm, fault: &Fault, cost: Cost) -> Option<String> {
    let fits = fault.code == harm.code
        && (fault.code == Code::WrongWorld || fault.what.starts_with("routing "))
        && fault.what.contains(harm.says)
        && fault.what.chars().all(midplane::log::is_text);
    // Fuel is no time, but on any machine it is used up long before this.
    let bounded = cost.took < GRACE && cost.grew < MEMORY + SLACK;
    (!fits || !bounded).then(|| format!("{}: {fault} {cost:?}", harm.name))
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Runs a test's own part for each harm, beside a neighbour.
macro_rules! each {
    ($harms:expr, |$harm:ident| $work:expr) => {{
        let cage = Cage::open().await;
        let mut all = Vec::new();
        for $harm in $harms {
            let (fault, cost) = cage.watch($harm.name, $work).await;
            all.extend(wrong($harm, &fault, cost));
        }
        report(&all);
    }};
}

/// The fault of the last instance, when the slot is as it was before: all links told, with the state that was saved last.
async fn recovered(slot: &Slot<Routing>, watch: &Watch) -> Fault {
    until("it starts again", || slot.health().restarts > 0 && slot.health().running).await;
    until("both links are told again", || watch.ups() >= 4).await;
    assert!(!watch.see(|seen| seen.forgot), "started without its last state");
    let health = slot.health();
    health.last_fault.expect("it has ended once")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_harm_while_it_handles_an_event_is_replaced() {
    each!(HANDLING, |harm| async move {
        let (slot, watch) = seated(&[("MESSAGE", harm.act)]).await;
        slot.deliver(message(1)).await.unwrap();
        let fault = recovered(&slot, &watch).await;
        assert_eq!(decide(&slot).unwrap(), Choice::Local, "{}", harm.name);
        slot.stop().await;
        fault
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_harm_while_it_answers_is_replaced() {
    each!(ANSWERING, |harm| async move {
        let (slot, watch) = seated(&[("DECIDE", harm.act)]).await;
        let fault = decide(&slot).unwrap_err();
        let seen = recovered(&slot, &watch).await;
        assert_eq!((seen.code, &seen.what), (fault.code, &fault.what));
        slot.stop().await;
        fault
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_harm_while_it_saves_leaves_the_state_before() {
    each!(SAVING, |harm| async move {
        let (slot, watch) = seated(&[("SAVE", harm.act)]).await;
        let good = program(&Bench::default(), Kind::Routing, &acting(&[])).await;
        // What takes its place starts with the last state that was saved, not with none and not with what came now.
        succeed(&slot, &good, &watch, Handover::Required).await.unwrap();
        let fault = recovered(&slot, &watch).await;
        assert_eq!(decide(&slot).unwrap(), Choice::Local, "{}", harm.name);
        // What the good one saves since is its own, and empty; nothing that came of the harm was ever kept.
        let kept_now = watch.see(|seen| seen.kept.clone()).unwrap();
        assert!(kept_now == kept() || kept_now.bytes.is_empty(), "{}: {kept_now:?}", harm.name);
        slot.stop().await;
        fault
    });
}

/// Puts another version in the place of what runs.
async fn succeed(slot: &Slot<Routing>, program: &Program, watch: &Watch, handover: Handover) -> Outcome<()> {
    let carry = Box::new(watch.clone());
    let successor = Successor { program: program.clone(), carry, heritage: Heritage::Handover(handover) };
    slot.succeed(successor).await?.go().await.map(|_| ())
}

/// A policy that does this when it is given a state.
fn taking_over(act: &str) -> Vec<u8> {
    acting(&[("INIT", &format!("(if (i32.load8_u offset=60 (local.get $setup)) (then {act}))"))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_harm_with_a_state_starts_without_or_not_at_all() {
    each!(TAKING_OVER, |harm| async move {
        let (slot, watch) = seated(&[]).await;
        let bad = program(&Bench::default(), Kind::Routing, &taking_over(harm.act)).await;
        let fault = Machine::<Routing>::start(&bad, &setup(0, "routing", "{}", Some(kept()))).err().unwrap();
        // Where the state has to be taken, the one before goes on, and so does its state.
        let refused = succeed(&slot, &bad, &watch, Handover::Required).await.unwrap_err();
        assert_eq!(refused.code, harm.code, "{refused}");
        assert!(refused.what.contains(harm.says), "{refused}");
        let said = |watch: &Watch| {
            watch.see(|seen| seen.lines.iter().filter(|line| line.contains("without its state")).count())
        };
        assert_eq!((slot.health().restarts, said(&watch)), (0, 0), "{}", harm.name);
        assert_eq!(decide(&slot).unwrap(), Choice::Local, "{}", harm.name);
        // Where it need not be, it is started once more without, and says so.
        succeed(&slot, &bad, &watch, Handover::Optional).await.unwrap();
        assert_eq!((slot.health().restarts, said(&watch)), (0, 1), "{}", harm.name);
        assert_eq!(decide(&slot).unwrap(), Choice::Local, "{}", harm.name);
        slot.stop().await;
        fault
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shape_that_takes_more_than_a_place_has_is_not_started() {
    each!(SHAPES, |harm| async move {
        let bench = Bench::default();
        let start = async {
            let code = bench.component(Kind::Routing, &hostile(harm.act)).await?;
            let program = Program::new(code.engine(), &code.component, "routing", "digest", MEMORY)?;
            Machine::<Routing>::start(&program, &setup(0, "routing", "{}", None)).map(|_| ())
        };
        start.await.err().unwrap()
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_slots_do_not_wait_for_each_other() {
    let cage = Cage::open().await;
    let spin: Acts<'_> = &[("MESSAGE", "(call $spin)")];
    let ((slow, _), (quick, _)) = (seated(spin).await, seated(&[]).await);
    let busy = slow.clone();
    let harm = async move {
        let started = Instant::now();
        busy.deliver(message(1)).await.unwrap();
        until("it ends", || busy.health().restarts == 1).await;
        started.elapsed()
    };
    let asking = async move {
        let mut answers = 0;
        while slow.health().restarts == 0 {
            assert_eq!(decide(&quick).unwrap(), Choice::Local);
            quick.tell(Event::Base(BaseEvent::LinkUp(link(3)))).await.unwrap();
            answers += 1;
            tokio::task::yield_now().await;
        }
        answers
    };
    let (answers, _) = cage.watch("two slots", async move { tokio::join!(harm, asking).1 }).await;
    assert!(answers > 10, "{answers} answers");
}

#[test]
fn no_two_harms_have_one_name() {
    let all: Vec<&Harm> = [HANDLING, ANSWERING, SAVING, TAKING_OVER, SHAPES].into_iter().flatten().collect();
    let names: BTreeSet<&str> = all.iter().map(|harm| harm.name).collect();
    assert_eq!(names.len(), all.len());
}
