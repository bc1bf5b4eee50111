//! Policies for tests: the real components, and one in WebAssembly text that does what a test puts into it.

use std::sync::{Arc, Mutex};

use midplane::log::Level;
use midplane::policy::machine::Program;
use midplane::policy::routing::{Choice, Effect, Event, Query, Routing};
use midplane::policy::slot::{Carry, Slot};
use midplane::policy::types::{BaseEvent, Link, Message, PeerSlot, Setup, State, Trust};
use midplane::words::objects::Kind;
use midplane::words::{Fault, Outcome};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::guests::{Bench, until};

/// Time at which policies of tests start.
pub const START: u64 = 1_000_000;
/// Memory of a policy.
const MEMORY: u64 = 64 << 20;

/// Where a test puts what a hostile policy does, and the WebAssembly that it puts there.
pub type Acts<'a> = &'a [(&'a str, &'a str)];

/// A program of a component.
pub async fn program(bench: &Bench, kind: Kind, wasm: &[u8]) -> Program {
    let code = bench.component(kind, wasm).await.unwrap();
    Program::new(code.engine(), &code.component, kind.as_str(), "digest", MEMORY).unwrap()
}

/// The routing policy of `tests/hostile/policy.wat` with something in its places `INIT`, `TIMER`, `MESSAGE`, `DECIDE` and
/// `SAVE`, as a component.
pub fn acting(acts: Acts<'_>) -> Vec<u8> {
    let mut text = include_str!("../hostile/policy.wat").to_owned();
    for (place, act) in acts {
        let place = format!("(;{place};)");
        assert!(text.contains(&place), "policy.wat has no {place}");
        text = text.replace(&place, act);
    }
    let mut module = wat::parse_str(&text).unwrap();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/");
    let mut resolve = Resolve::default();
    resolve.push_file(format!("{wit}policy.wit")).unwrap();
    let package = resolve.push_file(format!("{wit}routing.wit")).unwrap();
    let world = resolve.select_world(&[package], Some("routing")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// The id of a node by its number.
pub fn id(index: usize) -> String {
    format!("{index:0>4}{:a<48}", "")
}

/// The reverse of [`id`].
pub fn index(id: &str) -> usize {
    id[..4].parse().unwrap()
}

/// The setup of a node.
pub fn setup(node: usize, slot: &str, config: &str, handover: Option<State>) -> Setup {
    Setup {
        node: id(node),
        label: format!("n{node}"),
        tags: Vec::new(),
        slot: slot.to_owned(),
        config: config.to_owned(),
        seed: node as u64,
        now: START,
        clock_trusted: true,
        handover,
    }
}

/// A link to a trusted peer that routes as well.
pub fn link(peer: usize) -> Link {
    Link {
        peer: id(peer),
        label: format!("n{peer}"),
        tags: Vec::new(),
        trust: Trust::Trusted,
        rtt_us: 0,
        dialled: false,
        slots: vec![PeerSlot { slot: "routing".into(), protocol: "path-vector/1".into() }],
    }
}

/// What the node's side of a slot saw.
#[derive(Default)]
pub struct Seen {
    /// What was made durable last.
    pub kept: Option<State>,
    /// Whether each instance was given exactly that.
    pub forgot: bool,
    /// What each instance was given, those that did not start included.
    pub given: Vec<Option<State>>,
    /// How often channels began anew.
    pub resets: usize,
    /// What was logged.
    pub lines: Vec<String>,
    /// What was sent.
    pub sent: Vec<Message>,
}

/// The node's side of a slot, for tests.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Seen>>);

impl Watch {
    /// Looks at what was seen so far.
    pub fn see<R>(&self, look: impl FnOnce(&mut Seen) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }

    /// How many links an acting policy was told.
    pub fn ups(&self) -> usize {
        self.see(|seen| seen.lines.iter().filter(|line| *line == "up").count())
    }
}

impl Carry<Routing> for Watch {
    fn setup(&mut self, handover: Option<State>) -> Setup {
        self.see(|seen| {
            seen.forgot |= seen.kept.is_some() && handover != seen.kept;
            seen.given.push(handover.clone());
        });
        setup(0, "routing", "{}", handover)
    }

    fn effect(&mut self, _: Effect) -> Vec<Event> {
        Vec::new()
    }

    fn send(&mut self, message: Message) {
        self.see(|seen| seen.sent.push(message));
    }

    fn reset_channels(&mut self) {
        self.see(|seen| seen.resets += 1);
    }

    fn keep(&mut self, state: &State) {
        self.see(|seen| seen.kept = Some(state.clone()));
    }

    fn failed(&mut self, _: &Fault) {}

    fn log(&mut self, _: Level, text: &str) {
        self.see(|seen| seen.lines.push(text.to_owned()));
    }
}

/// A state from before.
pub fn kept() -> State {
    State { version: "kept".into(), bytes: vec![1, 2, 3] }
}

/// A slot with a hostile policy, two links told, and a state from before.
pub async fn seated(acts: Acts<'_>) -> (Slot<Routing>, Watch) {
    let program = program(&Bench::default(), Kind::Routing, &acting(acts)).await;
    let watch = Watch::default();
    watch.see(|seen| seen.kept = Some(kept()));
    let slot = Slot::start(program, Box::new(watch.clone()), Some(kept())).unwrap();
    for peer in [1, 2] {
        slot.tell(Event::Base(BaseEvent::LinkUp(link(peer)))).await.unwrap();
    }
    // One that ends meanwhile is told them again.
    until("the links are told", || watch.ups() >= 2).await;
    (slot, watch)
}

/// A message of zeros.
pub fn message(length: usize) -> Message {
    Message { peer: id(1), bytes: vec![0; length] }
}

/// Asks where a call to `x@d` goes.
pub fn decide(slot: &Slot<Routing>) -> Outcome<Choice> {
    let query = Query { name: "x@d".into(), to: None, from: None };
    slot.ask(|machine| machine.decide(START, &query)).map(|plan| plan.choice)
}
