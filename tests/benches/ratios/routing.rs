//! Where a call goes: asking the policy, against a typed call of its `decide`, and the look-up of a kept plan.

use std::collections::VecDeque;

use midplane::clock;
use midplane::policy::machine::{Machine, Program};
use midplane::policy::routing::{Choice, Claim, Effect, Event, LearnOutcome, Query, Routing};
use midplane::policy::types::{BaseEffect, BaseEvent, Link, Message, PeerSlot, Setup, Trust};
use midplane::wasm::engine::Kind;
use midplane::words::Name;
use wasmtime::component::Component;

use super::Failure;
use super::floors::{self, wasmtime::Raw};
use super::mesh::Mesh;
use super::table::{Aim, Row, Spread, each, in_turns};

/// Questions of one round.
const QUESTIONS: u32 = 2_000;
/// Look-ups of one round.
const LOOK_UPS: u32 = 20_000;
/// The time on the policies' clocks.
const NOW: u64 = 1_800_000_000_000;
/// Claims hold for this long.
const CLAIM_MS: u64 = 600_000;
/// Memory of a policy.
const MEMORY: u64 = 64 << 20;
/// The name that is asked for.
const NAME: &str = "warm@bench";
/// As in the manifest.
const SLOT: &str = "routing";
const PROTOCOL: &str = "path-vector/1";

/// Measures the rows.
pub async fn rows(mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let component = floors::component("routing/path-vector")?;
    let engine = mesh.node(1).engines.get(Kind::Policy)?;
    let program = Program::new(engine, &Component::new(engine, &component)?, SLOT, "", MEMORY)?;
    let (mut machine, events) = informed(mesh, &program)?;
    let query = Query { name: NAME.to_owned(), to: None, from: None };
    let raw = Raw::new(&floors::wasmtime::engine()?, &component)?;
    let mut router = raw.router(&setup(mesh, 2), &events, &query)?;
    for plan in [machine.decide(NOW, &query)?, router.decide(NOW)] {
        assert!(matches!(plan.choice, Choice::Forward(_)), "{plan:?}");
    }

    let (ours, floor) = in_turns(
        async || each(QUESTIONS, async || drop(machine.decide(NOW, &query).expect("a plan"))).await,
        async || each(QUESTIONS, async || drop(router.decide(NOW))).await,
    )
    .await;
    let decision = row("routing decision · typed call of `decide`", ours, floor);

    let node = mesh.node(2);
    let name: Name = NAME.parse()?;
    let plan = || drop(node.plan(&name, None, None).expect("a plan"));
    let (ours, floor) = in_turns(
        async || {
            let anew = async || {
                node.plans.forget();
                plan();
            };
            each(QUESTIONS, anew).await
        },
        async || each(QUESTIONS, async || drop(router.decide(NOW))).await,
    )
    .await;
    let uncached = row("plan of a node, forgotten and made again · typed call of `decide`", ours, floor);

    let (ours, _) = in_turns(async || each(LOOK_UPS, async || plan()).await, async || 0.0).await;
    let cached = Row {
        what: "plan of a node, kept".to_owned(),
        unit: "ns",
        ours: Spread::of(ours),
        floor: None,
        aim: Aim::AtMost(100.0),
    };
    Ok(vec![decision, uncached, cached])
}

fn row(what: &str, ours: Vec<f64>, floor: Vec<f64>) -> Row {
    Row {
        what: what.to_owned(),
        unit: "ns",
        ours: Spread::of(ours),
        floor: Some(Spread::of(floor)),
        aim: Aim::TimesAtMost(2.0),
    }
}

/// A machine that knows the mesh, and the events that told it.
type Informed = (Machine<Routing>, Vec<(u64, Event)>);

/// The policy of `n2` when `n1` has told it of a name, and all that it was told.
fn informed(mesh: &Mesh, program: &Program) -> Result<Informed, Failure> {
    let serving = Event::Serving(Claim {
        name: NAME.to_owned(),
        node: id(mesh, 1),
        serial: 1,
        expires: NOW + CLAIM_MS,
        proof: vec![0; 200],
    });
    let mut machines = Vec::new();
    for number in [1, 2] {
        machines.push(Machine::<Routing>::start(program, &setup(mesh, number))?.0);
    }
    let link = |number| Event::Base(BaseEvent::LinkUp(link(mesh, number)));
    let mut waiting = VecDeque::from([(0, serving), (0, link(2)), (1, link(1))]);
    let mut told = Vec::new();
    while let Some((at, event)) = waiting.pop_front() {
        for effect in machines[at].handle(NOW, &event)? {
            match effect {
                Effect::Base(BaseEffect::Send(message)) => {
                    let message = Message { peer: id(mesh, at + 1), ..message };
                    waiting.push_back((1 - at, Event::Base(BaseEvent::Message(message))));
                }
                Effect::Learn(claim) => {
                    let Claim { name, node, serial, .. } = claim;
                    waiting
                        .push_back((at, Event::Learned(LearnOutcome { name, node, serial, refused: None })));
                }
                _ => {}
            }
        }
        if at == 1 {
            told.push((NOW, event));
        }
    }
    let machine = machines.pop().ok_or("two machines")?;
    Ok((machine, told))
}

fn id(mesh: &Mesh, number: usize) -> String {
    mesh.node(number).identity.id.to_string()
}

fn setup(mesh: &Mesh, number: usize) -> Setup {
    Setup {
        node: id(mesh, number),
        label: format!("n{number}"),
        tags: Vec::new(),
        slot: SLOT.to_owned(),
        config: "{}".to_owned(),
        seed: 1,
        now: NOW,
        clock_trusted: clock::is_trusted(NOW),
        handover: None,
    }
}

fn link(mesh: &Mesh, number: usize) -> Link {
    Link {
        peer: id(mesh, number),
        label: format!("n{number}"),
        tags: Vec::new(),
        trust: Trust::Trusted,
        rtt_us: 0,
        dialled: false,
        slots: vec![PeerSlot { slot: SLOT.to_owned(), protocol: PROTOCOL.to_owned() }],
    }
}
