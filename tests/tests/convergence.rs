//! How soon nodes agree: after a change, after a short cut that the link survives, after a long one that it does not.
//!
//! The times are printed (`--nocapture`); what is asserted leaves room for a machine that is busy with other things.

use std::time::{Duration, Instant};

use midplane::clock;
use midplane_tests::forge::block_on;
use midplane_tests::relay::Relay;
use midplane_tests::{Manifest, Mesh, Node, PATIENCE, datasets, eventually};

/// Within this nodes agree after a change, on a machine that has nothing else to do.
const CHANGE: Duration = Duration::from_secs(1);
/// The same after the end of a cut.
const HEALED: Duration = Duration::from_secs(5);
/// How much longer it may take on a machine that runs everything else as well.
const BUSY: u32 = 4;

/// Two nodes with a dataset, and the wire between them.
struct Pair {
    mesh: Mesh,
    wire: Relay,
}

impl Pair {
    fn linked() -> Self {
        let mesh = Mesh::of(["n1", "n2"]);
        let [n1, n2] = mesh.nodes();
        let wire = Relay::to(n2.address());
        n2.start(&[]);
        n1.start(&["--peer", &format!("{}@{}", n2.id(), wire.address)]);
        mesh.apply(&Manifest::policies().sync(&["config"], ""), &[n1, n2]);
        put(n1, "first", b"value");
        gets(n2, "first", b"value");
        Self { mesh, wire }
    }

    fn nodes(&self) -> [&Node; 2] {
        self.mesh.nodes()
    }

    /// How often the first node lost its link.
    fn losses(&self) -> usize {
        let [n1, _] = self.nodes();
        n1.said().matches("is down").count()
    }
}

#[track_caller]
fn put(node: &Node, key: &str, value: &[u8]) {
    block_on(datasets::put(node, "config", key, value)).unwrap();
}

/// Writes to both nodes while neither hears of the other. The second one wins: its millisecond is a later one, so the ids of the
/// nodes, which decide within a millisecond, do not matter.
#[track_caller]
fn contend([n1, n2]: [&Node; 2], key: &str) {
    put(n1, key, b"of n1");
    let written = clock::now_ms();
    while clock::now_ms() <= written {
        std::thread::yield_now();
    }
    put(n2, key, b"of n2");
}

/// Waits until a node has this; returns for how long.
#[track_caller]
fn gets(node: &Node, key: &str, value: &[u8]) -> Duration {
    let began = Instant::now();
    eventually(PATIENCE, || match block_on(datasets::get(node, "config", key)) {
        Ok(found) if found == value => Ok(()),
        Ok(found) => Err(format!("{} has {} bytes of something else in {key}", node.label(), found.len())),
        Err(fault) => Err(fault.to_string()),
    });
    began.elapsed()
}

/// Conflicts that a node has counted.
#[track_caller]
fn conflicts(node: &Node) -> u64 {
    node.json(["status"])["conflicts"].as_u64().unwrap()
}

fn links(node: &Node) -> u64 {
    node.json(["status"])["links"].as_u64().unwrap()
}

/// Looks that each of these writes that gave way was counted by at least one node, and by none twice, and is shown.
#[track_caller]
fn lost_once_each(pair: &Pair, lost: u64) {
    let [n1, n2] = pair.nodes();
    eventually(PATIENCE, || match (conflicts(n1), conflicts(n2)) {
        (of_n1, of_n2) if of_n1 <= lost && of_n2 <= lost && of_n1 + of_n2 >= lost => Ok(()),
        counts => Err(format!("{counts:?} conflicts after {lost}")),
    });
    let said = n1.cli(["logs", "sync"]).ok() + &n2.cli(["logs", "sync"]).ok();
    for round in 0..lost {
        let line = format!("config/contested {round}: what {} wrote gave way to", &n1.id()[..8]);
        assert!(said.contains(&line), "no {line:?} in {said}");
    }
}

/// Says what was measured and looks that it is not far off.
#[track_caller]
fn within(what: &str, mut times: Vec<Duration>, aim: Duration) {
    times.sort();
    let (median, last) = (times[times.len() / 2], *times.last().unwrap());
    println!("{what}: {median:.2?} in the middle, {last:.2?} at most of {} (aim {aim:?})", times.len());
    assert!(median <= aim * BUSY, "{what} took {median:?}");
}

#[test]
fn a_change_is_on_the_other_node_at_once() {
    let pair = Pair::linked();
    let [n1, n2] = pair.nodes();
    let mut times = Vec::new();
    for round in 0..50 {
        let (from, to) = if round % 2 == 0 { (n1, n2) } else { (n2, n1) };
        let value = format!("value {round}");
        put(from, "changing", value.as_bytes());
        times.push(gets(to, "changing", value.as_bytes()));
    }
    within("a change", times, CHANGE);
    assert_eq!((conflicts(n1), conflicts(n2)), (0, 0));
}

#[test]
fn a_link_that_survives_a_cut_brings_everything_at_its_end() {
    let pair = Pair::linked();
    let [n1, n2] = pair.nodes();
    let (mut times, mut survived, mut round) = (Vec::new(), 0, 0);
    // Long enough that retransmissions pause longer and longer, too short for the link to be given up: that takes ten seconds. A
    // machine that stands still for some of them gives it up nevertheless, so there are some more rounds than needed.
    while survived < 3 && round < 6 {
        let (seconds, losses) = ([1, 3, 5][survived], pair.losses());
        let key = format!("contested {round}");
        pair.wire.cut();
        contend([n1, n2], &key);
        // More than may be on the way without an answer, so that nothing else can be sent either.
        for number in 0..10 {
            put(n1, &format!("large {number}"), &[round as u8; 32 << 10]);
        }
        pair.wire.lose_for(Duration::from_secs(seconds));
        let healed = Instant::now();
        gets(n1, &key, b"of n2");
        gets(n2, &key, b"of n2");
        gets(n2, "large 9", &[round as u8; 32 << 10]);
        println!("a cut of {seconds} s: {:.2?}", healed.elapsed());
        times.push(healed.elapsed());
        survived += usize::from(pair.losses() == losses);
        round += 1;
    }
    assert_eq!(survived, 3, "links did not survive");
    // What is on the way when the wire is mended crosses, so each of them sees both.
    lost_once_each(&pair, round);
    within("after a short cut", times, HEALED);
}

#[test]
fn a_link_that_dies_in_a_cut_is_there_again_at_its_end() {
    let pair = Pair::linked();
    let [n1, n2] = pair.nodes();
    let mut times = Vec::new();
    for (round, further) in [0, 7, 16].into_iter().enumerate() {
        let key = format!("contested {round}");
        pair.wire.cut();
        contend([n1, n2], &key);
        let cut = Instant::now();
        for node in [n1, n2] {
            eventually(PATIENCE, || match links(node) {
                0 => Ok(()),
                links => Err(format!("{} has {links} links", node.label())),
            });
        }
        // The longer it lasts, the longer are the pauses of a dialler that goes by nothing but its failures.
        pair.wire.lose_for(Duration::from_secs(further));
        let healed = Instant::now();
        gets(n1, &key, b"of n2");
        gets(n2, &key, b"of n2");
        println!("a cut of {:.0?}: {:.2?}", healed - cut, healed.elapsed());
        times.push(healed.elapsed());
    }
    assert_eq!(pair.losses(), 3);
    lost_once_each(&pair, 3);
    within("after a long cut", times, HEALED);
}
