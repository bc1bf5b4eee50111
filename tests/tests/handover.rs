//! How another version takes a policy's slot: what it starts from, who answers meanwhile, and what peers see of it.

use midplane::policy::machine::Program;
use midplane::policy::routing::{Choice, Event, Query, Routing};
use midplane::policy::slot::{Heritage, Slot, Successor};
use midplane::policy::types::{BaseEvent, Message, State};
use midplane::words::objects::{Handover, Kind};
use midplane::words::{Code, Outcome};
use midplane_tests::guests::{Bench, until};
use midplane_tests::policies::{Acts, START, Watch, acting, id, kept, link, program};

/// Refuses to start from a state, and from nothing else.
const NO_STATE: &str = "(if (i32.load8_u offset=60 (local.get 0)) (then
    (i32.store8 (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1028) (i32.const 512))
    (i32.store (i32.const 1032) (i32.const 2)) (return (i32.const 1024))))";
/// A timer of half a second, set by each message.
const TIMER: &str = "(i32.store (i32.const 96) (i32.const 1024)) (i32.store (i32.const 100) (i32.const 1))
    (i64.store (i32.const 1040) (i64.const 7)) (i64.store (i32.const 1048) (i64.const 500)) (return (i32.const 96))";

/// A policy with a slot, which has been told of two links and will save `state`.
struct Seated {
    slot: Slot<Routing>,
    watch: Watch,
}

async fn acts(acts: Acts<'_>) -> Program {
    program(&Bench::default(), Kind::Routing, &acting(acts)).await
}

async fn seated(own: Acts<'_>) -> Seated {
    let watch = Watch::default();
    watch.see(|seen| seen.kept = Some(kept()));
    let slot = Slot::start(acts(own).await, Box::new(watch.clone()), Some(kept())).unwrap();
    for peer in [1, 2] {
        slot.tell(Event::Base(BaseEvent::LinkUp(link(peer)))).await.unwrap();
    }
    until("the links are told", || watch.ups() >= 2).await;
    Seated { slot, watch }
}

impl Seated {
    async fn succeed(&self, program: Program, heritage: Heritage) -> Outcome<Watch> {
        let next = Watch::default();
        let carry = Box::new(next.clone());
        let ready = self.slot.succeed(Successor { program, carry, heritage }).await?;
        ready.go().await.map(|_| next)
    }
}

fn decide(slot: &Slot<Routing>) -> Outcome<Choice> {
    let query = Query { name: "x@d".into(), to: None, from: None };
    slot.ask(|machine| machine.decide(START, &query)).map(|plan| plan.choice)
}

/// What the acting policy saves.
fn saved() -> State {
    State { version: String::new(), bytes: Vec::new() }
}

fn by(handover: Handover) -> Heritage {
    Heritage::Handover(handover)
}

#[tokio::test]
async fn the_manifest_says_what_becomes_of_the_state() {
    let own = State { version: "own".into(), bytes: vec![9] };
    for (heritage, given, starts) in [
        (by(Handover::Required), Some(saved()), false),
        (by(Handover::Optional), Some(saved()), true),
        (by(Handover::None), None, true),
        (Heritage::Own(Some(own.clone())), Some(own), true),
        (Heritage::Own(None), None, true),
    ] {
        let seated = seated(&[]).await;
        let expect = format!("{heritage:?}");
        let watch = seated.succeed(acts(&[]).await, heritage.clone()).await.unwrap();
        assert_eq!(watch.see(|seen| seen.given.clone()), std::slice::from_ref(&given), "{expect}");
        // One that does not take a state.
        let outcome = seated.succeed(acts(&[("INIT", NO_STATE)]).await, heritage).await;
        assert_eq!(outcome.is_ok(), starts, "{expect}");
        match outcome {
            Ok(watch) => {
                let tries = watch.see(|seen| seen.given.clone());
                assert_eq!(tries.last(), Some(&None), "{expect}: {tries:?}");
            }
            Err(fault) => {
                assert_eq!(fault.code, Code::InitFailed, "{fault}");
                assert!(fault.what.contains("the state of the version before is not taken"), "{fault}");
                assert!(fault.fix.unwrap().contains("handover = \"optional\""));
                assert_eq!(decide(&seated.slot).unwrap(), Choice::Local);
            }
        }
        assert_eq!(seated.slot.health().restarts, 0, "{expect}");
    }
}

#[tokio::test]
async fn a_successor_knows_all_facts_before_it_is_asked_anything() {
    let seated = seated(&[]).await;
    let next = seated.succeed(acts(&[]).await, by(Handover::Required)).await.unwrap();
    // Told while the other one had the seat; what it wants is carried out when it has it, and its channels begin anew.
    assert_eq!((next.ups(), next.see(|seen| seen.resets)), (2, 1));
    assert_eq!(seated.watch.ups(), 2);
}

#[tokio::test]
async fn until_it_is_to_go_the_old_one_answers_and_events_wait() {
    let seated = seated(&[("DECIDE", "unreachable")]).await;
    let next = Watch::default();
    let successor = Successor {
        program: acts(&[]).await,
        carry: Box::new(next.clone()),
        heritage: by(Handover::Required),
    };
    let ready = seated.slot.succeed(successor).await.unwrap();
    seated.slot.tell(Event::Base(BaseEvent::LinkUp(link(3)))).await.unwrap();
    seated.slot.tell(Event::Base(BaseEvent::LinkUp(link(4)))).await.unwrap();
    assert_eq!(decide(&seated.slot).unwrap_err().code, Code::Trap, "the old one was not asked");
    let handed = ready.go().await.unwrap();
    // The trap of the old one is in the queue as well: the new one has the seat by then.
    assert!(handed.state && handed.events >= 2, "{} {}", handed.state, handed.events);
    until("the events that waited are told", || next.ups() == 4).await;
    assert_eq!(seated.watch.ups(), 2);
    assert_eq!(decide(&seated.slot).unwrap(), Choice::Local);
    assert_eq!(seated.slot.health().restarts, 0);
}

#[tokio::test]
async fn one_that_is_not_to_go_leaves_everything_as_it_was() {
    let seated = seated(&[]).await;
    let next = Watch::default();
    let (program, carry) = (acts(&[("DECIDE", "unreachable")]).await, Box::new(next.clone()));
    let successor = Successor { program, carry, heritage: by(Handover::Required) };
    drop(seated.slot.succeed(successor).await.unwrap());
    seated.slot.tell(Event::Base(BaseEvent::LinkUp(link(3)))).await.unwrap();
    until("the old one goes on", || seated.watch.ups() == 3).await;
    assert_eq!(decide(&seated.slot).unwrap(), Choice::Local);
    assert_eq!((next.ups(), next.see(|seen| seen.resets), seated.watch.see(|seen| seen.resets)), (0, 0, 0));
}

#[tokio::test]
async fn timers_go_over_with_the_state() {
    let fires = acts(&[("TIMER", "(return (i32.const 64))")]).await;
    // Fires it before the slot has changed hands, it is set again.
    let seated = seated(&[("MESSAGE", TIMER), ("TIMER", TIMER)]).await;
    seated.slot.deliver(Message { peer: id(1), bytes: vec![0] }).await.unwrap();
    seated.slot.reached().await;
    let next = seated.succeed(fires, by(Handover::Required)).await.unwrap();
    until("the timer of the one before fires", || next.ups() == 3).await;
}

#[tokio::test]
async fn a_state_that_cannot_be_saved_is_that_which_was_saved_last() {
    let seated = seated(&[("SAVE", "unreachable")]).await;
    let next = seated.succeed(acts(&[]).await, by(Handover::Required)).await.unwrap();
    assert_eq!(next.see(|seen| seen.given.clone()), [Some(kept())]);
    assert_eq!(decide(&seated.slot).unwrap(), Choice::Local);
    assert!(seated.slot.health().running);
}
