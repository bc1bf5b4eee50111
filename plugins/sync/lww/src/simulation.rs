//! Whole meshes of this policy, with hosts that keep rows as the real one does and messages that arrive in a seeded order.

mod cases;
mod convergence;

use std::collections::VecDeque;

use midplane_sdk::sync::*;
use midplane_sdk::{BaseEffect, Link, Map, Message, PeerSlot, Set, Setup, State, Trust};

use crate::{FORGET, LastWriterWins, wire};

/// What a channel holds at most; the real one begins anew beyond that.
const CHANNEL_MAX: usize = 1 << 20;
/// Timers that are due within this time belong to what is going on.
const SOON_MS: Millis = 15_000;

/// A random number generator of one line (splitmix64): the same numbers everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

fn id(index: usize) -> NodeId {
    format!("{index:0>4}{:a<48}", "")
}

/// A host: its table, what was saved, and what its policy waits for.
struct Host {
    policy: LastWriterWins,
    rows: Map<(String, String), (Option<Vec<u8>>, Vec<u8>)>,
    saved: Option<State>,
    answers: VecDeque<Reading>,
    timers: Map<u64, Millis>,
    datasets: Vec<String>,
    /// How far its clock is off.
    skew: i64,
    seen: Millis,
    accepted: Set<u64>,
    refused: Vec<String>,
    lost: Vec<Loss>,
    changed: usize,
    warnings: Vec<String>,
}

/// Nodes, their links, and what is on the way.
struct Net {
    hosts: Vec<Host>,
    edges: Set<(usize, usize)>,
    channels: Map<(usize, usize), VecDeque<Vec<u8>>>,
    now: Millis,
    random: Random,
    asks: u64,
    config: &'static str,
    /// Bytes that were sent.
    sent: usize,
}

fn datasets(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Net {
    fn new(count: usize, edges: &[(usize, usize)], seed: u64) -> Self {
        Self::with(count, edges, seed, "{}")
    }

    fn with(count: usize, edges: &[(usize, usize)], seed: u64, config: &'static str) -> Self {
        let mut net = Self {
            hosts: Vec::new(),
            edges: Set::new(),
            channels: Map::new(),
            now: 1_700_000_000_000,
            random: Random(seed),
            asks: 0,
            config,
            sent: 0,
        };
        for index in 0..count {
            let (policy, _) = LastWriterWins::init(net.setup(index, None)).unwrap();
            net.hosts.push(Host {
                policy,
                rows: Map::new(),
                saved: None,
                answers: VecDeque::new(),
                timers: Map::new(),
                datasets: datasets(&["config"]),
                skew: 0,
                seen: 0,
                accepted: Set::new(),
                refused: Vec::new(),
                lost: Vec::new(),
                changed: 0,
                warnings: Vec::new(),
            });
            net.start(index);
        }
        edges.iter().for_each(|&(a, b)| net.link(a, b));
        net
    }

    fn setup(&self, index: usize, handover: Option<State>) -> Setup {
        Setup {
            node: id(index),
            label: format!("n{index}"),
            tags: Vec::new(),
            slot: "sync".into(),
            config: self.config.into(),
            seed: index as u64,
            now: self.now,
            clock_trusted: true,
            handover,
        }
    }

    /// Starts an instance on what is in the table, as after a crash. Its channels start anew.
    fn start(&mut self, index: usize) {
        let setup = self.setup(index, self.hosts[index].saved.clone());
        let (policy, effects) = LastWriterWins::init(setup).unwrap();
        let host = &mut self.hosts[index];
        host.policy = policy;
        host.answers.clear();
        host.timers.clear();
        let beginning =
            Beginning { datasets: host.datasets.clone(), rows_most: 10_000, bytes_most: 64 << 20 };
        let heads: Vec<Head> = host
            .rows
            .iter()
            .filter(|((dataset, _), _)| host.datasets.contains(dataset))
            .map(|((dataset, key), (value, meta))| Head {
                place: Place { dataset: dataset.clone(), key: key.clone() },
                length: value.as_ref().map(|value| value.len() as u32),
                meta: meta.clone(),
            })
            .collect();
        self.carry_out(index, effects);
        self.handle(index, Event::Begin(beginning));
        for piece in heads.chunks(512) {
            self.handle(index, Event::Stored(piece.to_vec()));
        }
        for (a, b) in self.edges.clone() {
            if a == index || b == index {
                self.reset(a, b);
            }
        }
    }

    fn save(&mut self, index: usize) {
        self.hosts[index].saved = Some(self.hosts[index].policy.save());
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

    /// Both hear of the link once more.
    fn reset(&mut self, a: usize, b: usize) {
        self.link(a, b);
    }

    fn put(&mut self, index: usize, key: &str, value: &[u8]) {
        self.wish(index, "config", key, Wish::Put(value.to_vec()));
    }

    fn remove(&mut self, index: usize, key: &str) {
        self.wish(index, "config", key, Wish::Remove);
    }

    fn wish(&mut self, index: usize, dataset: &str, key: &str, wish: Wish) {
        self.asks += 1;
        let place = Place { dataset: dataset.into(), key: key.into() };
        self.handle(index, Event::Asked(Ask { id: self.asks, place, wish }));
        let host = &self.hosts[index];
        assert!(host.accepted.contains(&self.asks) || !host.refused.is_empty(), "an ask without an answer");
    }

    fn handle(&mut self, index: usize, event: Event) {
        let wall = self.now.saturating_add_signed(self.hosts[index].skew);
        let host = &mut self.hosts[index];
        host.seen = host.seen.max(wall);
        let effects = host.policy.handle(host.seen, event);
        self.carry_out(index, effects);
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        let host = &mut self.hosts[index];
        for effect in &effects {
            match effect {
                Effect::Put(Entry { place, value, meta }) => {
                    assert!(host.datasets.contains(&place.dataset) && meta.len() <= 16 << 10);
                    let key = (place.dataset.clone(), place.key.clone());
                    host.rows.insert(key, (value.clone(), meta.clone()));
                }
                Effect::Remove(place) => {
                    host.rows.remove(&(place.dataset.clone(), place.key.clone()));
                }
                _ => {}
            }
        }
        for effect in effects {
            let host = &mut self.hosts[index];
            match effect {
                Effect::Base(BaseEffect::Send(message)) => {
                    assert!(message.bytes.len() <= 60 << 10);
                    self.sent += message.bytes.len();
                    let peer: usize = message.peer[..4].parse().unwrap();
                    let channel = self.channels.get_mut(&(index, peer)).expect("sent without a link");
                    channel.push_back(message.bytes);
                    let waiting: usize = channel.iter().map(Vec::len).sum();
                    assert!(waiting <= CHANNEL_MAX, "the channel would begin anew: {waiting} bytes wait");
                }
                Effect::Base(BaseEffect::SetTimer(timer)) => {
                    host.timers.insert(timer.id, self.now + timer.after);
                }
                Effect::Base(BaseEffect::Log(entry)) => host.warnings.push(entry.text),
                Effect::Base(_) | Effect::Put(_) | Effect::Remove(_) => {}
                Effect::Changed(places) => host.changed += places.len(),
                Effect::Load(request) => {
                    // Little at a time, so that the rest has to be asked for again.
                    let rest = request.places.len().saturating_sub(3);
                    let entries = request.places.into_iter().take(3);
                    let entries = entries.filter_map(|place| {
                        let (value, meta) =
                            host.rows.get(&(place.dataset.clone(), place.key.clone()))?.clone();
                        Some(Entry { place, value, meta })
                    });
                    let entries = entries.collect();
                    host.answers.push_back(Reading { id: request.id, entries, rest: rest as u32 });
                    assert!(host.answers.len() <= 64);
                }
                Effect::Accepted(id) => drop(host.accepted.insert(id)),
                Effect::Refused(refusal) => host.refused.push(refusal.reason),
                Effect::Lost(loss) => host.lost.push(loss),
            }
        }
    }

    /// Delivers in random order, in order per channel, until nothing is on the way.
    fn settle(&mut self) {
        for _ in 0..500_000 {
            if !self.step() && !self.fire(SOON_MS) {
                return;
            }
        }
        panic!("does not come to rest");
    }

    /// Delivers one thing; whether there was one.
    fn step(&mut self) -> bool {
        let mut due: Vec<(usize, Option<usize>)> = self
            .channels
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|((from, to), _)| (*to, Some(*from)))
            .collect();
        let answered = self.hosts.iter().enumerate().filter(|(_, host)| !host.answers.is_empty());
        due.extend(answered.map(|(to, _)| (to, None)));
        if due.is_empty() {
            return false;
        }
        match due[self.random.below(due.len())] {
            (to, Some(from)) => {
                let bytes = self.channels.get_mut(&(from, to)).unwrap().pop_front().unwrap();
                self.handle(to, Event::Base(BaseEvent::Message(Message { peer: id(from), bytes })));
            }
            (to, None) => {
                let reading = self.hosts[to].answers.pop_front().unwrap();
                self.handle(to, Event::Loaded(reading));
            }
        }
        true
    }

    /// Lets the next timer come, if it is due within this time and is not about forgetting.
    fn fire(&mut self, within: Millis) -> bool {
        let all = self.hosts.iter().enumerate();
        let timers = all.flat_map(|(index, host)| host.timers.iter().map(move |(id, at)| (*at, index, *id)));
        match timers.filter(|(_, _, id)| *id != FORGET).min() {
            Some((at, index, timer)) if at <= self.now + within => {
                self.now = self.now.max(at);
                self.hosts[index].timers.remove(&timer);
                self.handle(index, Event::Base(BaseEvent::Timer(timer)));
                true
            }
            _ => false,
        }
    }

    /// Lets time pass and every node look for removals to forget.
    fn pass(&mut self, millis: Millis) {
        self.now += millis;
        for index in 0..self.hosts.len() {
            self.handle(index, Event::Base(BaseEvent::Timer(FORGET)));
        }
    }

    fn read(&self, index: usize, key: &str) -> Option<Vec<u8>> {
        self.hosts[index].rows.get(&("config".to_owned(), key.to_owned()))?.0.clone()
    }

    /// What readers of a node see.
    fn visible(&self, index: usize) -> Map<(String, String), Vec<u8>> {
        let rows = self.hosts[index].rows.iter();
        rows.filter_map(|(key, (value, _))| Some((key.clone(), value.clone()?))).collect()
    }

    fn removals(&self, index: usize) -> usize {
        self.hosts[index].rows.values().filter(|(value, _)| value.is_none()).count()
    }

    /// All nodes have the same.
    fn check_same(&self) {
        for index in 1..self.hosts.len() {
            assert_eq!(self.visible(index), self.visible(0), "node {index} and node 0");
        }
    }

    fn lost(&self) -> usize {
        self.hosts.iter().map(|host| host.lost.len()).sum()
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
        slots: vec![PeerSlot { slot: "sync".into(), protocol: wire::PROTOCOL.into() }],
    }
}
