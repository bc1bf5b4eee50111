//! Policies: replayed byte for byte, and what the slot does with those that do harm.

use midplane::node::plans::{Found, Planned, Plans};
use midplane::policy::Kind as PolicyKind;
use midplane::policy::admission::{self, Admission, Membership, Request};
use midplane::policy::discovery::{self, Discovery, Hint, Resolution, Target};
use midplane::policy::machine::{FUEL_HANDLE, FUEL_INIT, FUEL_QUESTION, Machine, Program};
use midplane::policy::routing::{Choice, Event, Query, Routing};
use midplane::policy::slot::{Heritage, Slot, Successor};
use midplane::policy::types::{BaseEvent, Setup, Trust};
use midplane::words::Code;
use midplane::words::objects::{Handover, Kind};
use midplane_tests::guests::{Bench, built, until};
use midplane_tests::policies::{START, Watch, acting, decide, id, link, message, program, seated, setup};
use midplane_tests::sim::{Net, ring};

/// Starts a policy and hands it events; one line for each call: its fuel and its effects.
fn play<K: PolicyKind>(
    program: &Program,
    setup: &Setup,
    events: &[(u64, K::Event)],
) -> (Machine<K>, Vec<String>) {
    let (mut machine, effects) = Machine::<K>::start(program, setup).unwrap();
    let mut lines = vec![format!("{} {effects:?}", machine.fuel_used())];
    for (now, event) in events {
        let effects = machine.handle(*now, event).unwrap();
        lines.push(format!("{} {effects:?}", machine.fuel_used()));
    }
    (machine, lines)
}

/// The same events give the same effects for the same fuel, from the start and from a state in the middle.
fn replay<K: PolicyKind>(
    program: &Program,
    slot: &str,
    config: &str,
    events: &[(u64, K::Event)],
) -> Vec<String> {
    let fresh = setup(0, slot, config, None);
    let (_, recorded) = play::<K>(program, &fresh, events);
    assert_eq!(play::<K>(program, &fresh, events).1, recorded, "{slot}");
    let (before, after) = events.split_at(events.len() / 2);
    let (mut machine, _) = play::<K>(program, &fresh, before);
    let state = machine.save().unwrap();
    assert_eq!(play::<K>(program, &fresh, before).0.save().unwrap(), state, "{slot}");
    let later = setup(0, slot, config, Some(state));
    let (mut machine, continued) = play::<K>(program, &later, after);
    let (mut again, repeated) = play::<K>(program, &later, after);
    assert_eq!(repeated, continued, "{slot}");
    assert_eq!(again.save().unwrap(), machine.save().unwrap(), "{slot}");
    recorded
}

#[tokio::test]
async fn path_vector_replays_byte_for_byte() {
    let program = program(&Bench::default(), Kind::Routing, &built("routing/path-vector")).await;
    let mut net = Net::new(&program, 6, &ring(6), 11);
    for node in 0..6 {
        (0..5).for_each(|n| net.serve(node, &format!("x{n}@d"), 1));
        net.serve(node, &format!("own{node}@d"), 1);
    }
    net.settle();
    net.cut(0, 5);
    net.settle();
    net.link(0, 5);
    net.settle();
    net.serve(3, "own3@d", 2);
    net.settle();
    let events = std::mem::take(&mut net.recorded);
    let messages =
        events.iter().filter(|(_, event)| matches!(event, Event::Base(BaseEvent::Message(_)))).count();
    assert!(messages >= 10, "only {messages} messages were recorded");
    let lines = replay::<Routing>(&program, "routing", "{}", &events);
    assert!(lines.iter().any(|line| line.contains("Effect::Learn")), "{lines:?}");
    // The recorded state is the one that the replay arrives at, and answers alike.
    let (mut machine, _) = play::<Routing>(&program, &setup(0, "routing", "{}", None), &events);
    assert_eq!(machine.save().unwrap(), net.save());
    let query = |name: &str| Query { name: name.to_owned(), to: None, from: None };
    for name in ["x0@d", "own3@d", "nobody@d"] {
        let now = machine.now();
        let plan = machine.decide(now, &query(name)).unwrap();
        let fuel = machine.fuel_used();
        assert_eq!(plan, net.plan(0, name, None, None), "{name}");
        machine.decide(now, &query(name)).unwrap();
        assert_eq!(machine.fuel_used(), fuel, "{name}");
    }
}

#[tokio::test]
async fn static_discovery_replays_byte_for_byte() {
    let program = program(&Bench::default(), Kind::Discovery, &built("discovery/static")).await;
    let hint = |n: usize| {
        let target = Target { address: format!("192.0.2.{n}:7"), peer: n.is_multiple_of(2).then(|| id(n)) };
        discovery::Event::Hint(Hint { target, source: "manifest".into() })
    };
    let resolved = |name: &str, addresses: &[&str], error: Option<&str>| {
        discovery::Event::Resolved(Resolution {
            name: name.into(),
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            error: error.map(str::to_owned),
        })
    };
    let mut events = vec![
        (START, resolved("a.example:7", &["192.0.2.200:7", "192.0.2.201:7"], None)),
        (START + 5, resolved("b.example:7", &[], Some("no such name"))),
    ];
    events.extend((1..20).map(|n| (START + n as u64, hint(n))));
    events.push((START + 60_000, discovery::Event::Base(BaseEvent::Timer(1))));
    events.push((START + 60_001, resolved("a.example:7", &["192.0.2.201:7", "192.0.2.9:7"], None)));
    events.push((START + 60_002, resolved("b.example:7", &["192.0.2.77:7"], None)));
    let config = r#"{"names": ["a.example:7", "b.example:7"]}"#;
    let lines = replay::<Discovery>(&program, "discovery", config, &events);
    assert!(lines.iter().any(|line| line.contains("Effect::HangUp")), "{lines:?}");
}

#[tokio::test]
async fn basic_admission_replays_byte_for_byte() {
    let program = program(&Bench::default(), Kind::Admission, &built("admission/basic")).await;
    let events: Vec<_> =
        (1..5).map(|n| (START, admission::Event::Base(BaseEvent::LinkUp(link(n))))).collect();
    replay::<Admission>(&program, "admission", "{}", &events);
    let membership = |trust| Membership { trust, tags: Vec::new(), names: Vec::new(), expires: 1 };
    let ask = |shown: Option<Trust>| {
        let (mut machine, _) = play::<Admission>(&program, &setup(0, "admission", "{}", None), &events);
        let membership = shown.map(membership);
        let request = Request { peer: id(1), address: "192.0.2.1:1".into(), dialled: false, membership };
        (machine.admit(START, &request).unwrap(), machine.fuel_used())
    };
    for shown in [None, Some(Trust::Basic), Some(Trust::Full)] {
        let (verdict, fuel) = ask(shown);
        assert_eq!(ask(shown), (verdict.clone(), fuel));
        assert_eq!(verdict.trust, shown.unwrap_or(Trust::Pending));
    }
}

/// An effect at 1024: its case among the base effects, and two numbers of 32 bits each after it.
fn effect(case: u32, payload: [u32; 4]) -> String {
    let mut text =
        format!("(i32.store (i32.const 1024) (i32.const 0)) (i32.store (i32.const 1032) (i32.const {case}))");
    for (place, number) in payload.iter().enumerate() {
        let number = number.cast_signed();
        text += &format!("(i32.store (i32.const {}) (i32.const {number}))", 1040 + place * 4);
    }
    text + "(return (i32.const 80))"
}

/// Sets this many timers, each an hour away.
fn timers(count: u32) -> String {
    format!(
        "(i32.store (i32.const 96) (i32.const 1024)) (i32.store (i32.const 100) (i32.const {count}))
         (loop $next
           (i64.store (i32.add (i32.const 1040) (i32.mul (local.get 9) (i32.const 48))) (i64.extend_i32_u (local.get 9)))
           (i64.store (i32.add (i32.const 1048) (i32.mul (local.get 9) (i32.const 48))) (i64.const 3600000))
           (local.set 9 (i32.add (local.get 9) (i32.const 1)))
           (br_if $next (i32.lt_u (local.get 9) (i32.const {count}))))
         (return (i32.const 96))"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_does_harm_is_replaced_and_told_everything_again() {
    let far = u32::MAX - 15;
    for (name, act, code, says) in [
        ("trap", "unreachable".to_owned(), Code::Trap, "unreachable"),
        ("spin", "(call $spin)".to_owned(), Code::OutOfFuel, "fuel"),
        ("memory", "(drop (memory.grow (i32.const 60000)))".to_owned(), Code::MemoryLimit, "limits.memory"),
        ("timers", timers(65), Code::Protocol, "64 timers"),
        ("long message", effect(2, [512, 2, 0, 71_680]), Code::Protocol, "71680 bytes"),
        ("message out of memory", effect(2, [512, 2, far, 71_680]), Code::Trap, "out of bounds"),
        ("peer that is no text", effect(2, [144, 4, 0, 1]), Code::Trap, "utf-8"),
        ("case that there is not", effect(9, [0; 4]), Code::Trap, "discriminant"),
        ("level that there is not", effect(3, [9, 512, 2, 0]), Code::Trap, "discriminant"),
        ("list that is not there", "(return (i32.const -4))".to_owned(), Code::Trap, "out of bounds"),
        ("odd list", "(return (i32.const 3))".to_owned(), Code::Trap, "aligned"),
    ] {
        let (slot, watch) = seated(&[("MESSAGE", &act)]).await;
        for round in 1..=2 {
            slot.deliver(message(10)).await.unwrap();
            until(name, || slot.health().restarts == round).await;
            let fault = slot.health().last_fault.unwrap();
            assert_eq!(fault.code, code, "{name}: {fault}");
            assert!(fault.what.starts_with("routing ") && fault.what.contains(says), "{name}: {fault}");
            until(name, || slot.health().running).await;
            // Both links again, after channels that begin anew.
            until(name, || watch.ups() == 2 + 2 * usize::try_from(round).unwrap()).await;
            assert_eq!(watch.see(|seen| seen.resets), usize::try_from(round).unwrap(), "{name}");
            assert_eq!(decide(&slot).unwrap(), Choice::Local, "{name}");
        }
        assert!(!watch.see(|seen| seen.forgot), "{name}: started without its last state");
        assert!(watch.see(|seen| seen.sent.is_empty()), "{name}: something was sent");
        slot.stop().await;
    }
}

#[tokio::test]
async fn as_many_timers_as_allowed_are_fine() {
    let (slot, watch) = seated(&[("MESSAGE", &timers(64))]).await;
    for _ in 0..2 {
        slot.deliver(message(1)).await.unwrap();
    }
    slot.tell(Event::Base(BaseEvent::LinkUp(link(3)))).await.unwrap();
    until("the third link is told", || watch.ups() == 3).await;
    assert_eq!(slot.health().restarts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_always_has_something_to_do_can_be_stopped() {
    // Each timer sets the next one, due at once.
    let again = effect(0, [7, 0, 0, 0]);
    let (slot, watch) = seated(&[("MESSAGE", &again), ("TIMER", &again)]).await;
    slot.deliver(message(1)).await.unwrap();
    until("it is busy", || slot.health().events > 50).await;
    slot.tell(Event::Base(BaseEvent::LinkUp(link(3)))).await.unwrap();
    until("events get through", || watch.ups() == 3).await;
    slot.stop().await;
    assert_eq!(slot.health().restarts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_does_harm_ends_the_instance_and_the_last_plan_stays() {
    for (act, code) in [("unreachable", Code::Trap), ("(call $spin)", Code::OutOfFuel)] {
        let act = format!("(if (i32.gt_u (global.get $asked) (i32.const 1)) (then {act}))");
        let (slot, watch) = seated(&[("DECIDE", &act)]).await;
        let plans = Plans::default();
        let query = Query { name: "x@d".into(), to: None, from: None };
        let (found, epoch) = plans.find("x@d", None, None, START);
        assert!(matches!(found, Found::Nothing));
        let plan = slot.ask(|machine| machine.decide(START, &query)).unwrap();
        plans.keep(&query, plan, epoch, START);
        let kept = |now| plans.find("x@d", None, None, now).0;
        assert!(matches!(kept(START + 59_999), Found::Valid(plan) if *plan == Planned::Local));

        assert_eq!(decide(&slot).unwrap_err().code, code);
        // Between the trap and the next start nobody answers, and the plan is there although its time is over.
        if let Err(fault) = decide(&slot) {
            assert_eq!(fault.code, Code::Busy, "{fault}");
        }
        assert!(matches!(kept(START + 60_000), Found::Stale(plan) if *plan == Planned::Local));
        until("it starts again", || slot.health().restarts == 1 && slot.health().running).await;
        until("both links are told again", || watch.ups() == 4).await;
        assert_eq!(slot.health().last_fault.unwrap().code, code);
        assert_eq!(decide(&slot).unwrap(), Choice::Local);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_traps_while_the_queue_is_full_is_not_forgotten() {
    let act = "(if (i32.gt_u (global.get $asked) (i32.const 1)) (then unreachable))";
    let (slot, watch) = seated(&[("DECIDE", act)]).await;
    let query = Query { name: "x@d".into(), to: None, from: None };
    let fault = slot.ask(|machine| {
        machine.decide(START, &query)?;
        // The seat is taken, so nothing of this is handled before the trap.
        for peer in 0..3_000 {
            slot.try_tell(Event::Base(BaseEvent::LinkDown(id(peer % 9_000 + 10))));
        }
        machine.decide(START, &query)
    });
    assert_eq!(fault.unwrap_err().code, Code::Trap);
    until("it starts again", || slot.health().restarts == 1 && slot.health().running).await;
    until("both links are told again", || watch.ups() == 4).await;
    assert_eq!(slot.health().last_fault.unwrap().code, Code::Trap);
}

#[tokio::test]
async fn a_policy_that_cannot_start_is_refused_before_it_has_a_seat() {
    let refuse = "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1028) (i32.const 512))
        (i32.store (i32.const 1032) (i32.const 2)) (return (i32.const 1024))";
    for (act, code, says) in [
        ("unreachable", Code::Trap, "init"),
        ("(call $spin)", Code::OutOfFuel, "init"),
        (refuse, Code::InitFailed, "refused to start: up"),
    ] {
        let program = program(&Bench::default(), Kind::Routing, &acting(&[("INIT", act)])).await;
        let fault = Slot::start(program, Box::new(Watch::default()), None).err().unwrap();
        assert_eq!(fault.code, code, "{fault}");
        assert!(fault.what.contains(says), "{fault}");
    }
}

#[tokio::test]
async fn fuel_ends_a_call_exactly_where_it_is_used_up() {
    for (place, fuel) in
        [("MESSAGE", FUEL_HANDLE), ("SAVE", FUEL_HANDLE), ("DECIDE", FUEL_QUESTION), ("INIT", FUEL_INIT)]
    {
        let program = program(&Bench::default(), Kind::Routing, &acting(&[(place, "(call $spin)")])).await;
        let started = Machine::<Routing>::start(&program, &setup(0, "routing", "{}", None));
        let fault = match (place, started) {
            ("INIT", started) => started.err().unwrap(),
            (_, Err(fault)) => panic!("{place}: {fault}"),
            (place, Ok((mut machine, _))) => {
                let query = Query { name: "x@d".into(), to: None, from: None };
                let fault = match place {
                    "MESSAGE" => {
                        machine.handle(START, &Event::Base(BaseEvent::Message(message(1)))).map(|_| ())
                    }
                    "SAVE" => machine.save().map(|_| ()),
                    _ => machine.decide(START, &query).map(|_| ()),
                };
                if place != "SAVE" {
                    assert_eq!(machine.fuel_used(), fuel, "{place}");
                }
                fault.unwrap_err()
            }
        };
        assert_eq!(fault.code, Code::OutOfFuel, "{place}: {fault}");
    }
}

#[tokio::test]
async fn a_new_program_that_refuses_leaves_the_old_one_in_its_seat() {
    let (slot, watch) = seated(&[]).await;
    let bad = program(&Bench::default(), Kind::Routing, &acting(&[("INIT", "unreachable")])).await;
    let (carry, heritage) = (Box::new(Watch::default()), Heritage::Handover(Handover::Optional));
    let successor = Successor { program: bad, carry, heritage };
    assert_eq!(slot.succeed(successor).await.map(drop).unwrap_err().code, Code::Trap);
    assert_eq!(decide(&slot).unwrap(), Choice::Local);
    let health = slot.health();
    assert!(health.running && health.restarts == 0, "{health:?}");
    slot.tell(Event::Base(BaseEvent::LinkUp(link(3)))).await.unwrap();
    until("the third link is told", || watch.ups() == 3).await;
}
