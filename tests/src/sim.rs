//! Networks of the real routing component in one process: virtual time, and messages that arrive in a seeded order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hasher as _};

use midplane::policy::machine::{Machine, Program};
use midplane::policy::routing::{Choice, Claim, Effect, Event, LearnOutcome, Plan, Query, Routing};
use midplane::policy::types::{BaseEffect, BaseEvent, Message, State};

use crate::policies::{START, id, index, link, setup};

/// Claims are good for this long.
const CLAIM_MS: u64 = 600_000;
/// Timers that are due within this time belong to what is going on; later ones are for claims that expire.
const SOON_MS: u64 = 5_000;
/// More deliveries than any of the networks needs to come to rest.
const DELIVERIES_MOST: usize = 100_000;

/// A random number generator of one line (splitmix64): the same numbers everywhere.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// A number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// The links of a network.
pub type Edges = BTreeSet<(usize, usize)>;

/// Nodes in a row.
pub fn line(count: usize) -> Edges {
    (1..count).map(|node| (node - 1, node)).collect()
}

/// Nodes in a circle.
pub fn ring(count: usize) -> Edges {
    line(count).into_iter().chain([(0, count - 1)]).collect()
}

/// Everybody with everybody.
pub fn full(count: usize) -> Edges {
    (0..count).flat_map(|b| (0..b).map(move |a| (a, b))).collect()
}

/// A tree and as many links more.
pub fn random(count: usize, seed: u64) -> Edges {
    let mut random = Random(seed);
    let mut edges: Edges = (1..count).map(|node| (random.below(node), node)).collect();
    for _ in 0..count {
        let (a, b) = (random.below(count), random.below(count));
        if a != b {
            edges.insert((a.min(b), a.max(b)));
        }
    }
    edges
}

/// Nodes, their links, and what is on the way.
pub struct Net {
    machines: Vec<Machine<Routing>>,
    edges: Edges,
    channels: BTreeMap<(usize, usize), VecDeque<Vec<u8>>>,
    answers: Vec<VecDeque<LearnOutcome>>,
    timers: Vec<BTreeMap<u64, u64>>,
    now: u64,
    random: Random,
    trace: DefaultHasher,
    /// What the first node was told, for a replay.
    pub recorded: Vec<(u64, Event)>,
}

impl Net {
    /// Starts the nodes and links them.
    pub fn new(program: &Program, count: usize, edges: &Edges, seed: u64) -> Self {
        let mut net = Self {
            machines: Vec::new(),
            edges: Edges::new(),
            channels: BTreeMap::new(),
            answers: vec![VecDeque::new(); count],
            timers: vec![BTreeMap::new(); count],
            now: START,
            random: Random(seed),
            trace: DefaultHasher::new(),
            recorded: Vec::new(),
        };
        for node in 0..count {
            let (machine, effects) = Machine::start(program, &setup(node, "routing", "{}", None)).unwrap();
            net.machines.push(machine);
            net.carry_out(node, effects);
        }
        edges.iter().for_each(|&(a, b)| net.link(a, b));
        net
    }

    /// Links two nodes.
    pub fn link(&mut self, a: usize, b: usize) {
        self.edges.insert((a.min(b), a.max(b)));
        for (from, to) in [(a, b), (b, a)] {
            self.channels.insert((from, to), VecDeque::new());
        }
        for (from, to) in [(a, b), (b, a)] {
            self.tell(from, Event::Base(BaseEvent::LinkUp(link(to))));
        }
    }

    /// Cuts a link; what was on the way is lost.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.edges.remove(&(a.min(b), a.max(b)));
        for (from, to) in [(a, b), (b, a)] {
            self.channels.remove(&(from, to));
            self.tell(from, Event::Base(BaseEvent::LinkDown(id(to))));
        }
    }

    /// A node serves a name.
    pub fn serve(&mut self, node: usize, name: &str, serial: u64) {
        let expires = self.now + CLAIM_MS;
        let (name, proof) = (name.to_owned(), b"good".to_vec());
        self.tell(node, Event::Serving(Claim { name, node: id(node), serial, expires, proof }));
    }

    /// Hands a node an event and carries out what it answers.
    pub fn tell(&mut self, node: usize, event: Event) {
        self.note(node, &event);
        if node == 0 {
            self.recorded.push((self.now, event.clone()));
        }
        let effects = self.machines[node].handle(self.now, &event).unwrap();
        self.carry_out(node, effects);
    }

    /// Delivers in random order, in order per channel, and lets timers fire, until there is nothing more to do. Answers how
    /// many messages that took.
    pub fn settle(&mut self) -> usize {
        let mut delivered = 0;
        for _ in 0..DELIVERIES_MOST {
            let mut due: Vec<(usize, Option<usize>)> = Vec::new();
            let waiting = self.channels.iter().filter(|(_, queue)| !queue.is_empty());
            due.extend(waiting.map(|((from, to), _)| (*to, Some(*from))));
            let answered = self.answers.iter().enumerate().filter(|(_, queue)| !queue.is_empty());
            due.extend(answered.map(|(to, _)| (to, None)));
            if due.is_empty() {
                if !self.fire() {
                    return delivered;
                }
                continue;
            }
            let (to, from) = due[self.random.below(due.len())];
            match from {
                Some(from) => {
                    let bytes = self.channels.get_mut(&(from, to)).unwrap().pop_front().unwrap();
                    delivered += 1;
                    self.tell(to, Event::Base(BaseEvent::Message(Message { peer: id(from), bytes })));
                }
                None => {
                    let outcome = self.answers[to].pop_front().unwrap();
                    self.tell(to, Event::Learned(outcome));
                }
            }
        }
        panic!("does not come to rest");
    }

    /// A hash over every event and every effect so far, in their order.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// The state of the first node.
    pub fn save(&mut self) -> State {
        self.machines[0].save().unwrap()
    }

    /// Where a call goes.
    pub fn plan(&mut self, node: usize, name: &str, to: Option<usize>, from: Option<usize>) -> Plan {
        let query = Query { name: name.to_owned(), to: to.map(id), from: from.map(id) };
        self.machines[node].decide(self.now, &query).unwrap()
    }

    /// Every node reaches what `server` serves on a shortest path, hop by hop and without a node twice, or knows that it
    /// cannot.
    pub fn check(&mut self, name: &str, server: usize) {
        for (node, expect) in self.distances(server).into_iter().enumerate() {
            match (expect, self.plan(node, name, Some(server), None).choice) {
                (Some(0), Choice::Local) | (None, Choice::Unroutable(_)) => {}
                (Some(expect), Choice::Forward(forward)) => {
                    assert_eq!(forward.hops[0].distance, expect, "{node} to {server}");
                    assert_eq!(self.follow(node, name, server), expect, "{node} to {server}");
                }
                (expect, choice) => panic!("{node} to {server}, {expect:?} away: {choice:?}"),
            }
        }
    }

    fn follow(&mut self, node: usize, name: &str, server: usize) -> u32 {
        let (mut at, mut from, mut seen) = (node, None, BTreeSet::from([node]));
        while at != server {
            let Choice::Forward(forward) = self.plan(at, name, Some(server), from).choice else {
                panic!("{at} knows no way to {server}")
            };
            from = Some(at);
            at = index(&forward.hops[0].next);
            assert!(seen.insert(at), "a loop at {at}");
        }
        u32::try_from(seen.len() - 1).unwrap()
    }

    fn distances(&self, to: usize) -> Vec<Option<u32>> {
        let mut distances = vec![None; self.machines.len()];
        distances[to] = Some(0);
        let mut queue = VecDeque::from([to]);
        while let Some(at) = queue.pop_front() {
            for &(a, b) in self.edges.iter().filter(|(a, b)| *a == at || *b == at) {
                let other = if a == at { b } else { a };
                if distances[other].is_none() {
                    distances[other] = distances[at].map(|distance| distance + 1);
                    queue.push_back(other);
                }
            }
        }
        distances
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.note(node, &effect);
            match effect {
                Effect::Base(BaseEffect::Send(message)) => {
                    let channel = self.channels.get_mut(&(node, index(&message.peer)));
                    channel.expect("sent without a link").push_back(message.bytes);
                }
                Effect::Base(BaseEffect::SetTimer(timer)) => {
                    self.timers[node].insert(timer.id, self.now + timer.after);
                }
                Effect::Base(BaseEffect::CancelTimer(timer)) => drop(self.timers[node].remove(&timer)),
                Effect::Learn(Claim { name, node: of, serial, .. }) => {
                    self.answers[node].push_back(LearnOutcome { name, node: of, serial, refused: None });
                }
                Effect::Base(BaseEffect::Log(_)) | Effect::PlansChanged(_) => {}
            }
        }
    }

    /// Lets the time come of the next timer, if that is soon.
    fn fire(&mut self) -> bool {
        let all = self.timers.iter().enumerate();
        let next = all.flat_map(|(node, timers)| timers.iter().map(move |(id, at)| (*at, node, *id))).min();
        match next {
            Some((at, node, timer)) if at <= self.now + SOON_MS => {
                self.now = self.now.max(at);
                self.timers[node].remove(&timer);
                self.tell(node, Event::Base(BaseEvent::Timer(timer)));
                true
            }
            _ => false,
        }
    }

    fn note(&mut self, node: usize, what: &impl Debug) {
        self.trace.write(format!("{} {node} {what:?}\n", self.now).as_bytes());
    }
}
