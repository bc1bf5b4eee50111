//! Those who call: by name, on the node that serves and over the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use midplane::clock::{self, Instant};
use midplane::decisions::rights::Rights;
use midplane::node::Node;
use midplane::node::call::Invocation;
use midplane::node::reply::{Next, Reply};
use midplane::words::schema::Form;
use midplane::words::{Digest, Outcome, cbor};
use tokio::task::JoinSet;

use super::http;
use super::ledger::{Ledger, Place};
use super::pair::{LABELS, NODES};
use super::tally::{Kind, Tally, Wrong};
use super::versions::{STREAMS, UNARY, name};

/// Time for all calls of a caller, so that none meets its end.
const CALL_MS: u64 = 3_600_000;
/// Items of a stream that is read as fast as it comes.
const ITEMS: u64 = 20;
/// Items of a stream that takes long.
const LONG_ITEMS: u64 = 50;
/// Calls in a row before others have their turn.
const TURN: u32 = 8;
/// How often a caller that keeps a pace is at work.
const BEAT: Duration = Duration::from_millis(5);

/// How many there are, and how fast they are.
#[derive(Clone, Copy, Debug)]
pub struct Callers {
    /// Callers of each kind for each of the two names, in the order of [`Kind::ALL`]; of those over the link and on the node.
    pub count: [usize; Kind::ALL.len()],
    /// Calls a second of each caller; none for as many as there can be.
    pub pace: [Option<u32>; Kind::ALL.len()],
    /// How long a long call takes.
    pub long: Duration,
    /// Whether somebody calls on the first node all the time, so that each publication there falls into a call.
    pub always: bool,
}

/// What all callers share.
pub struct Load {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What was in force.
    pub ledger: Ledger,
    /// What it came to.
    pub tally: Arc<Tally>,
    /// Slots that were given something else, so far.
    pub swaps: AtomicU64,
    /// Fewest swaps that a long call went over.
    pub fewest: AtomicU64,
    /// Most of them.
    pub most: AtomicU64,
    /// The stamp of each component.
    pub stamps: std::collections::HashMap<Digest, u64>,
    /// Whether the callers are to stop.
    pub stop: AtomicBool,
}

impl Load {
    /// Sets callers to work, until [`Load::stop`] is set.
    pub fn start(self: &Arc<Self>, callers: &Callers) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if callers.always {
            let (kind, long) = (Kind::Local, callers.long);
            let way = Way { load: self.clone(), kind, at: 0, server: 0, pace: None, long };
            tasks.spawn(way.go(0));
        }
        for kind in Kind::ALL {
            let pace = callers.pace[kind as usize];
            for (server, at) in (0..NODES).flat_map(|server| (0..NODES).map(move |at| (server, at))) {
                let here = server == at;
                let calls = match kind {
                    Kind::Local | Kind::Http => here,
                    Kind::Remote => !here,
                    Kind::Stream | Kind::Long => true,
                };
                if !calls {
                    continue;
                }
                for number in 0..callers.count[kind as usize] {
                    let way = Way { load: self.clone(), kind, at, server, pace, long: callers.long };
                    tasks.spawn(way.go(number));
                }
            }
        }
        tasks
    }

    /// Whether this component may have answered.
    pub fn judge(&self, kind: Kind, place: Place, said: Said, start: Instant, end: Instant) {
        let Said { digest, stamp } = said;
        let known = digest.and_then(|digest| self.stamps.get(&digest));
        let in_force = digest.is_some_and(|digest| self.ledger.served(place, &digest, start, end));
        if in_force && known == stamp.as_ref() {
            return self.tally.ended(kind, start, end, &self.nodes);
        }
        self.tally.wrong(kind, Wrong::Misrouted, || {
            format!("{place:?} was answered by {digest:?}, stamp {stamp:?}, in force: {in_force}")
        });
    }
}

/// Who answered, as the node says and as the guest says.
pub struct Said {
    /// The component.
    pub digest: Option<Digest>,
    /// The number in its bytes.
    pub stamp: Option<u64>,
}

/// One caller.
pub struct Way {
    /// What it shares.
    pub load: Arc<Load>,
    /// What it does.
    pub kind: Kind,
    /// The node where it calls.
    pub at: usize,
    /// The node that serves.
    pub server: usize,
    pace: Option<u32>,
    long: Duration,
}

impl Way {
    async fn go(self, number: usize) {
        let long = self.long.as_millis() as u64;
        let (skill, function, argument) = match self.kind {
            Kind::Local | Kind::Remote | Kind::Http => ("unary", "stamp", None),
            Kind::Stream => ("streams", "count", Some(ITEMS)),
            Kind::Long if number.is_multiple_of(2) => ("unary", "rest", Some(long)),
            Kind::Long => ("streams", "count", Some(LONG_ITEMS)),
        };
        let call = invocation(skill, self.server, function, argument);
        let pause = self.long / LONG_ITEMS as u32;
        let mut client = http::Client::new(&self);
        // A beat's calls, or one after as many beats as it takes.
        let due = self.pace.map(|pace| (BEAT.as_secs_f64() * f64::from(pace)).max(1.0));
        while !self.stopped() {
            let started = clock::monotonic();
            for _ in 0..due.map_or(TURN, |due| due as u32) {
                match self.kind {
                    Kind::Local | Kind::Remote => self.unary(&call, Duration::ZERO).await,
                    Kind::Stream => self.stream(&call, ITEMS, Duration::ZERO).await,
                    Kind::Long if number.is_multiple_of(2) => self.over(self.unary(&call, self.long)).await,
                    Kind::Long => self.over(self.stream(&call, LONG_ITEMS, pause)).await,
                    Kind::Http => client.ask(&self).await,
                }
                if self.stopped() {
                    return;
                }
            }
            match due.zip(self.pace) {
                Some((due, pace)) => {
                    let next = started + Duration::from_secs_f64(due / f64::from(pace));
                    tokio::time::sleep_until(next).await;
                }
                None => tokio::task::yield_now().await,
            }
        }
    }

    fn stopped(&self) -> bool {
        self.load.stop.load(Ordering::Relaxed)
    }

    async fn unary(&self, call: &Invocation, least: Duration) {
        let start = clock::monotonic();
        let answer = ask(&self.load.nodes[self.at], call).await;
        let end = clock::monotonic();
        let place = Place { node: self.server, slot: UNARY[self.server] };
        match answer {
            Ok((digest, bytes)) if end - start >= least => {
                let stamp = ciborium::from_reader(&bytes[..]).ok();
                self.load.judge(self.kind, place, Said { digest, stamp }, start, end);
            }
            Ok(_) => self.failed(|| format!("an answer after {:?}", end - start)),
            Err(fault) => self.failed(|| fault.to_string()),
        }
    }

    /// Reads a stream, with a pause after each item, and looks whether all of it is there.
    async fn stream(&self, call: &Invocation, items: u64, pause: Duration) {
        let start = clock::monotonic();
        let mut reply = match self.load.nodes[self.at].invoke(call).await {
            Ok(reply) => reply,
            Err(fault) => return self.failed(|| fault.to_string()),
        };
        let (mut stamp, mut next) = (None, 0_u64);
        let cut = loop {
            match numbers(&mut reply).await {
                Ok(Some(numbers)) => {
                    for number in numbers {
                        match stamp {
                            None => stamp = Some(number),
                            Some(_) if number == next => next += 1,
                            Some(_) => return self.cut(&format!("{number} came where {next} should")),
                        }
                        if !pause.is_zero() {
                            tokio::time::sleep(pause).await;
                        }
                    }
                }
                Ok(None) if next == items => break None,
                Ok(None) => break Some(format!("it ended after {next} of {items}")),
                Err(fault) => break Some(format!("after {next} of {items}: {fault}")),
            }
        };
        if let Some(why) = cut {
            return self.cut(&why);
        }
        let place = Place { node: self.server, slot: STREAMS[self.server] };
        let said = Said { digest: reply.served_by(), stamp };
        self.load.judge(self.kind, place, said, start, clock::monotonic());
    }

    /// Counts the swaps that a call goes over. One that was begun before the first of them, or is not over after the last, goes over fewer.
    async fn over(&self, call: impl Future<Output = ()>) {
        let before = self.load.swaps.load(Ordering::Relaxed);
        call.await;
        if before > 0 && !self.stopped() {
            let over = self.load.swaps.load(Ordering::Relaxed) - before;
            self.load.fewest.fetch_min(over, Ordering::Relaxed);
            self.load.most.fetch_max(over, Ordering::Relaxed);
        }
    }

    /// Counts a call that was not answered.
    pub fn failed(&self, why: impl FnOnce() -> String) {
        let (at, server) = (LABELS[self.at], LABELS[self.server]);
        self.load.tally.wrong(self.kind, Wrong::Failed, || {
            // When something was published last is where to look for the reason.
            let since = |node: &Node| {
                let generation = node.generation.load();
                format!("{} for {:?}", generation.version, generation.since.elapsed())
            };
            let since: Vec<String> = self.load.nodes.iter().map(since).collect();
            format!("from {at} to {server}, generations {}: {}", since.join(" and "), why())
        });
    }

    fn cut(&self, why: &str) {
        let (at, server) = (LABELS[self.at], LABELS[self.server]);
        self.load.tally.wrong(self.kind, Wrong::Cut, || format!("from {at} to {server}: {why}"));
    }
}

fn invocation(skill: &str, server: usize, function: &str, argument: Option<u64>) -> Invocation {
    let mut arguments = Vec::new();
    ciborium::into_writer(&argument.into_iter().collect::<Vec<u64>>(), &mut arguments)
        .expect("numbers are CBOR");
    Invocation {
        name: name(skill, LABELS[server]).parse().expect("a name"),
        function: function.to_owned(),
        form: Form::Cbor,
        arguments,
        deadline: clock::deadline_in(CALL_MS),
        idempotent: false,
        trace: false,
        rights: Rights::own([0; 32].into()),
    }
}

/// One call and its whole answer.
async fn ask(node: &Node, call: &Invocation) -> Outcome<(Option<Digest>, Vec<u8>)> {
    let mut reply = node.invoke(call).await?;
    let mut answer = Vec::new();
    loop {
        match reply.next().await? {
            Next::Items(items) => answer.extend_from_slice(&items),
            Next::Note(_) => {}
            Next::End => return Ok((reply.served_by(), answer)),
        }
    }
}

/// The next numbers of a stream; none at its end.
async fn numbers(reply: &mut Reply) -> Outcome<Option<Vec<u64>>> {
    loop {
        match reply.next().await? {
            Next::Items(items) => {
                let numbers = cbor::sequence(&items)?;
                return Ok(Some(
                    numbers.iter().filter_map(|item| ciborium::from_reader(*item).ok()).collect(),
                ));
            }
            Next::Note(_) => {}
            Next::End => return Ok(None),
        }
    }
}
