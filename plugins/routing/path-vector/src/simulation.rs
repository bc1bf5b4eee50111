//! Whole networks of this policy, with messages that arrive in a seeded order.

mod cases;

use std::collections::VecDeque;

use midplane_sdk::routing::*;
use midplane_sdk::{BaseEffect, Link, Map, Message, PeerSlot, Set, Trust};

use crate::{EXPIRY, FLUSH, HOLD, PathVector, wire};

/// Claims of the simulation are good for this long.
const CLAIM_MS: Millis = 600_000;

fn id(index: usize) -> NodeId {
    format!("{index:0>4}{:a<48}", "")
}

fn setup(index: usize, config: &str, handover: Option<State>, now: Millis) -> Setup {
    Setup {
        node: id(index),
        label: format!("n{index}"),
        tags: Vec::new(),
        slot: "routing".into(),
        config: config.into(),
        seed: index as u64,
        now,
        clock_trusted: true,
        handover,
    }
}

fn link_to(index: usize) -> Link {
    Link {
        peer: id(index),
        label: format!("n{index}"),
        tags: Vec::new(),
        trust: Trust::Trusted,
        rtt_us: 0,
        dialled: false,
        slots: vec![PeerSlot { slot: "routing".into(), protocol: wire::PROTOCOL.into() }],
    }
}

fn claim(name: &str, index: usize, serial: u64, expires: Millis) -> Claim {
    Claim { name: name.into(), node: id(index), serial, expires, proof: b"good".to_vec() }
}

/// A random number generator of one line (splitmix64): the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// Nodes, their links, and what is on the way.
struct Net {
    nodes: Vec<PathVector>,
    edges: Set<(usize, usize)>,
    /// Messages by direction, each in order.
    channels: Map<(usize, usize), VecDeque<Vec<u8>>>,
    /// Answers of each node's host, in order.
    answers: Vec<VecDeque<LearnOutcome>>,
    timers: Vec<Map<u64, Millis>>,
    /// Names whose plans each node said have changed since the test looked.
    changed: Vec<Set<String>>,
    now: Millis,
    random: Random,
    delivered: usize,
}

impl Net {
    fn new(count: usize, edges: &[(usize, usize)], seed: u64) -> Self {
        let start = |index| PathVector::init(setup(index, "{}", None, 0)).unwrap().0;
        let mut net = Self {
            nodes: (0..count).map(start).collect(),
            edges: Set::new(),
            channels: Map::new(),
            answers: vec![VecDeque::new(); count],
            timers: vec![Map::new(); count],
            changed: vec![Set::new(); count],
            now: 1,
            random: Random(seed),
            delivered: 0,
        };
        edges.iter().for_each(|&(a, b)| net.link(a, b));
        net
    }

    fn line(count: usize) -> Self {
        Self::new(count, &(1..count).map(|i| (i - 1, i)).collect::<Vec<_>>(), 1)
    }

    fn ring(count: usize) -> Self {
        Self::new(count, &(0..count).map(|i| (i, (i + 1) % count)).collect::<Vec<_>>(), 1)
    }

    fn full(count: usize) -> Self {
        let edges: Vec<_> = (0..count).flat_map(|a| (0..a).map(move |b| (b, a))).collect();
        Self::new(count, &edges, 1)
    }

    /// A connected random graph: a tree and some more edges.
    fn random(count: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut edges: Set<(usize, usize)> = (1..count).map(|i| (random.below(i), i)).collect();
        for _ in 0..count {
            let (a, b) = (random.below(count), random.below(count));
            if a != b {
                edges.insert((a.min(b), a.max(b)));
            }
        }
        Self::new(count, &edges.into_iter().collect::<Vec<_>>(), seed)
    }

    fn link(&mut self, a: usize, b: usize) {
        self.edges.insert((a.min(b), a.max(b)));
        for (from, to) in [(a, b), (b, a)] {
            self.channels.insert((from, to), VecDeque::new());
        }
        for (from, to) in [(a, b), (b, a)] {
            self.handle(from, Event::Base(BaseEvent::LinkUp(link_to(to))));
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        self.edges.remove(&(a.min(b), a.max(b)));
        for (from, to) in [(a, b), (b, a)] {
            self.channels.remove(&(from, to));
            self.handle(from, Event::Base(BaseEvent::LinkDown(id(to))));
        }
    }

    fn serve(&mut self, index: usize, name: &str, serial: u64) {
        let claim = claim(name, index, serial, self.now + CLAIM_MS);
        self.handle(index, Event::Serving(claim));
    }

    fn handle(&mut self, index: usize, event: Event) {
        let effects = self.nodes[index].handle(self.now, event);
        self.carry_out(index, effects);
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Base(BaseEffect::Send(message)) => {
                    assert!(message.bytes.len() <= 60 << 10);
                    let peer: usize = message.peer[..4].parse().unwrap();
                    self.channels
                        .get_mut(&(index, peer))
                        .expect("sent without a link")
                        .push_back(message.bytes);
                }
                Effect::Base(BaseEffect::SetTimer(timer)) => {
                    self.timers[index].insert(timer.id, self.now + timer.after);
                }
                Effect::Base(_) => {}
                Effect::Learn(claim) => {
                    let holds = claim.proof == b"good" && claim.expires > self.now;
                    let refused = (!holds).then(|| "a wrong signature".to_owned());
                    let Claim { name, node, serial, .. } = claim;
                    self.answers[index].push_back(LearnOutcome { name, node, serial, refused });
                }
                Effect::PlansChanged(names) => self.changed[index].extend(names.unwrap()),
            }
        }
    }

    /// Delivers in random order, in order per channel, until nothing is on the way; how many messages that took.
    fn settle(&mut self) -> usize {
        let before = self.delivered;
        loop {
            let mut due: Vec<(usize, Option<usize>)> = self
                .channels
                .iter()
                .filter(|(_, queue)| !queue.is_empty())
                .map(|((from, to), _)| (*to, Some(*from)))
                .collect();
            due.extend(
                self.answers
                    .iter()
                    .enumerate()
                    .filter(|(_, queue)| !queue.is_empty())
                    .map(|(to, _)| (to, None)),
            );
            if due.is_empty() && !self.flush() {
                return self.delivered - before;
            }
            if due.is_empty() {
                continue;
            }
            match due[self.random.below(due.len())] {
                (to, Some(from)) => {
                    let bytes = self.channels.get_mut(&(from, to)).unwrap().pop_front().unwrap();
                    self.delivered += 1;
                    self.handle(to, Event::Base(BaseEvent::Message(Message { peer: id(from), bytes })));
                }
                (to, None) => {
                    let outcome = self.answers[to].pop_front().unwrap();
                    self.handle(to, Event::Learned(outcome));
                }
            }
            assert!(self.delivered - before < 200_000, "does not come to rest");
        }
    }

    /// Fires the timers for what is left to tell, or else those for what waits.
    fn flush(&mut self) -> bool {
        for timer in [FLUSH, HOLD] {
            let due: Vec<usize> =
                (0..self.nodes.len()).filter(|index| self.timers[*index].remove(&timer).is_some()).collect();
            for &index in &due {
                self.handle(index, Event::Base(BaseEvent::Timer(timer)));
            }
            if !due.is_empty() {
                return true;
            }
        }
        false
    }

    /// Lets time pass, with the timers that it brings.
    fn pass(&mut self, millis: Millis) {
        self.now += millis;
        for index in 0..self.nodes.len() {
            if self.timers[index].get(&EXPIRY).is_some_and(|at| *at <= self.now) {
                self.timers[index].remove(&EXPIRY);
                self.handle(index, Event::Base(BaseEvent::Timer(EXPIRY)));
            }
        }
    }

    fn plan(&self, index: usize, name: &str, to: Option<usize>, from: Option<usize>) -> Plan {
        self.nodes[index].decide(self.now, &Query { name: name.into(), to: to.map(id), from: from.map(id) })
    }

    fn hops(&self, index: usize, name: &str) -> Vec<Hop> {
        match self.plan(index, name, None, None).choice {
            Choice::Forward(forward) => forward.hops,
            _ => Vec::new(),
        }
    }

    fn distances(&self, to: usize) -> Vec<Option<u32>> {
        let mut distances = vec![None; self.nodes.len()];
        distances[to] = Some(0);
        let mut queue = VecDeque::from([to]);
        while let Some(at) = queue.pop_front() {
            for &(a, b) in &self.edges {
                let other = if a == at {
                    b
                } else if b == at {
                    a
                } else {
                    continue;
                };
                if distances[other].is_none() {
                    distances[other] = distances[at].map(|distance| distance + 1);
                    queue.push_back(other);
                }
            }
        }
        distances
    }

    /// Every node reaches what `server` serves on a shortest path, hop by hop, or not at all when there is none.
    fn check_shortest(&self, name: &str, server: usize) {
        for (index, expect) in self.distances(server).into_iter().enumerate() {
            let plan = self.plan(index, name, Some(server), None).choice;
            match (expect, plan) {
                (Some(0), Choice::Local) | (None, Choice::Unroutable(_)) => {}
                (Some(expect), Choice::Forward(forward)) => {
                    assert_eq!(forward.hops[0].distance, expect, "{index} to {server}");
                    self.follow(index, name, server);
                }
                (expect, plan) => panic!("{index} to {server} at {expect:?}: {plan:?}"),
            }
        }
    }

    /// Every choice that a plan leaves leads to the server without a node twice.
    fn follow(&self, index: usize, name: &str, server: usize) {
        let (mut at, mut from, mut seen) = (index, None, Set::from([index]));
        while at != server {
            let Choice::Forward(forward) = self.plan(at, name, Some(server), from).choice else {
                panic!("{at} knows no way to {server}")
            };
            from = Some(at);
            at = forward.hops[0].next[..4].parse().unwrap();
            assert!(seen.insert(at), "a loop at {at}");
        }
    }
}
