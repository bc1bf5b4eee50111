//! A policy in the shadow of another: timers of its own, which outcomes it is told, and what is made of the differences.

mod timers;

use std::collections::BTreeMap;

use super::latency::Latency;
use crate::words::swap::{Example, ShadowFound, Side};

pub use self::timers::Timers;

/// Asks of either that are remembered. An older one is forgotten, and its outcome not told.
pub const ASKS_MOST: usize = 4_096;
/// Examples that can be asked for.
pub const EXAMPLES_MOST: usize = 64;
/// Instances of the candidate that may be ended.
pub const TRAPS_MOST: u64 = 8;

/// What an ask is about: what its outcome names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A claim, by name, node and serial.
    Learn(String, String, u64),
    /// An address that is dialled, again and again until somebody hangs up.
    Dial(String),
    /// A name that is looked up.
    Resolve(String),
    /// A reading, by its number.
    Load(u64),
}

/// What both have asked for and not been told.
#[derive(Debug, Default)]
pub struct Asks {
    active: Open,
    candidate: Open,
}

/// Asks with their arguments, and their order.
#[derive(Debug, Default)]
struct Open {
    asks: BTreeMap<Topic, (u64, Vec<u8>)>,
    made: u64,
}

impl Open {
    fn ask(&mut self, topic: Topic, arguments: Vec<u8>) {
        self.made += 1;
        self.asks.insert(topic, (self.made, arguments));
        if self.asks.len() > ASKS_MOST
            && let Some(oldest) =
                self.asks.iter().min_by_key(|(_, (at, _))| *at).map(|(topic, _)| topic.clone())
        {
            self.asks.remove(&oldest);
        }
    }
}

/// What becomes of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Both asked for the same: both are told.
    Both,
    /// The candidate asked for something else under the same name.
    Withheld,
    /// The candidate did not ask.
    NotAsked,
}

impl Asks {
    /// The active policy asks.
    pub fn active(&mut self, topic: Topic, arguments: Vec<u8>) {
        self.active.ask(topic, arguments);
    }

    /// The candidate asks.
    pub fn candidate(&mut self, topic: Topic, arguments: Vec<u8>) {
        self.candidate.ask(topic, arguments);
    }

    /// The candidate wants no more outcomes of this.
    pub fn candidate_ends(&mut self, topic: &Topic) {
        self.candidate.asks.remove(topic);
    }

    /// The active policy is told an outcome. What was asked for once is answered once.
    pub fn outcome(&mut self, topic: &Topic) -> Told {
        let of = |open: &Open| open.asks.get(topic).map(|(_, arguments)| arguments.clone());
        let (active, candidate) = (of(&self.active), of(&self.candidate));
        let lasts = matches!(topic, Topic::Dial(_));
        if !lasts {
            self.active.asks.remove(topic);
        }
        match (active, candidate) {
            (_, None) => Told::NotAsked,
            (Some(active), Some(candidate)) if active == candidate => {
                if !lasts {
                    self.candidate.asks.remove(topic);
                }
                Told::Both
            }
            _ => Told::Withheld,
        }
    }

    /// Asks of the candidate that nobody has answered.
    pub fn unanswered(&self) -> u64 {
        let waits = |topic: &&Topic| !matches!(topic, Topic::Dial(_));
        self.candidate.asks.keys().filter(waits).count() as u64
    }

    /// Both begin anew.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Tally {
    found: ShadowFound,
    active: Latency,
    candidate: Latency,
    examples: usize,
}

/// What one of the two used for a call.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Time.
    pub ns: u64,
    /// Fuel.
    pub fuel: u64,
}

impl Tally {
    /// Keeps so many examples.
    pub fn new(examples: usize) -> Self {
        Self { examples: examples.min(EXAMPLES_MOST), ..Self::default() }
    }

    /// Both have made something of a call. The example is made only when it is wanted.
    pub fn compared(
        &mut self,
        question: bool,
        equal: bool,
        active: Used,
        candidate: Used,
        example: impl FnOnce(u64) -> Example,
    ) {
        let found = &mut self.found;
        found.questions += u64::from(question);
        if equal {
            found.equal += 1;
        } else {
            found.different += 1;
            if found.examples.len() < self.examples {
                found.examples.push(example(found.equal + found.different));
            }
        }
        for (side, latency, used) in [
            (&mut found.active, &mut self.active, active),
            (&mut found.candidate, &mut self.candidate, candidate),
        ] {
            side.calls += 1;
            side.fuel = Some(side.fuel.unwrap_or(0).saturating_add(used.fuel));
            latency.add(used.ns);
        }
    }

    /// What is counted by itself.
    pub fn found(&mut self) -> &mut ShadowFound {
        &mut self.found
    }

    /// All of it.
    pub fn finish(mut self) -> ShadowFound {
        let side = |side: &mut Side, latency: &Latency| {
            side.p50_ns = latency.quantile(500);
            side.p99_ns = latency.quantile(990);
        };
        side(&mut self.found.active, &self.active);
        side(&mut self.found.candidate, &self.candidate);
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_when_both_asked_for_the_same_and_never_otherwise() {
        let (load, dial) = (|id| Topic::Load(id), Topic::Dial("a".into()));
        let mut asks = Asks::default();
        assert_eq!(asks.outcome(&load(1)), Told::NotAsked);
        asks.active(load(1), vec![1]);
        assert_eq!(asks.outcome(&load(1)), Told::NotAsked);
        // The same, in either order, and once.
        asks.candidate(load(1), vec![1]);
        asks.active(load(1), vec![1]);
        assert_eq!((asks.outcome(&load(1)), asks.outcome(&load(1))), (Told::Both, Told::NotAsked));
        // Another thing under the same name.
        asks.active(load(2), vec![1]);
        asks.candidate(load(2), vec![2]);
        assert_eq!((asks.outcome(&load(2)), asks.unanswered()), (Told::Withheld, 1));
        // Asked after the active one was told: not from what is over.
        asks.active(load(3), vec![1]);
        assert_eq!(asks.outcome(&load(3)), Told::NotAsked);
        asks.candidate(load(3), vec![1]);
        assert_eq!((asks.outcome(&load(3)), asks.unanswered()), (Told::Withheld, 2));
        // Dialling goes on until somebody hangs up.
        asks.active(dial.clone(), vec![1]);
        asks.candidate(dial.clone(), vec![1]);
        assert_eq!((asks.outcome(&dial), asks.outcome(&dial)), (Told::Both, Told::Both));
        asks.candidate_ends(&dial);
        assert_eq!((asks.outcome(&dial), asks.unanswered()), (Told::NotAsked, 2));
        asks.clear();
        assert_eq!(asks.unanswered(), 0);
    }

    #[test]
    fn no_more_asks_are_remembered_than_there_may_be() {
        let mut asks = Asks::default();
        for id in 0..=ASKS_MOST as u64 {
            asks.active(Topic::Load(id), vec![]);
            asks.candidate(Topic::Load(id), vec![]);
        }
        assert_eq!(asks.unanswered(), ASKS_MOST as u64);
        assert_eq!(asks.outcome(&Topic::Load(0)), Told::NotAsked);
        assert_eq!(asks.outcome(&Topic::Load(1)), Told::Both);
    }

    #[test]
    fn what_is_different_is_counted_and_the_first_of_it_shown() {
        let mut tally = Tally::new(2);
        let used = |ns| Used { ns, fuel: 10 };
        for number in 0..10 {
            let example = |call| Example {
                call,
                function: "handle".into(),
                now: number,
                arguments: number.into(),
                effect: None,
                active: 1.into(),
                candidate: 2.into(),
            };
            tally.compared(number % 5 == 0, number % 2 == 0, used(100), used(200), example);
        }
        let found = tally.finish();
        assert_eq!((found.equal, found.different, found.questions), (5, 5, 2));
        assert_eq!(found.examples.iter().map(|example| example.call).collect::<Vec<_>>(), [2, 4]);
        assert_eq!((found.active.calls, found.candidate.fuel), (10, Some(100)));
        assert!(found.active.p50_ns < 110 && found.candidate.p99_ns >= 200, "{found:?}");
    }
}
