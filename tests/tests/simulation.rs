//! Whole meshes of the path-vector component, the very bytes that run in a node.

use midplane::policy::machine::Program;
use midplane::policy::routing::Choice;
use midplane::words::objects::Kind;
use midplane_tests::guests::{Bench, built};
use midplane_tests::policies::program;
use midplane_tests::sim::{Edges, Net, Random, full, line, random, ring};

async fn path_vector() -> Program {
    program(&Bench::default(), Kind::Routing, &built("routing/path-vector")).await
}

/// Every network of the tests, with its size and a name.
fn networks() -> Vec<(String, usize, Edges)> {
    let mut networks = vec![
        ("line of 3".to_owned(), 3, line(3)),
        ("ring of 3".to_owned(), 3, ring(3)),
        ("ring of 8".to_owned(), 8, ring(8)),
        ("full 5".to_owned(), 5, full(5)),
    ];
    networks.extend((1..=5).map(|seed| (format!("random {seed}"), 20, random(20, seed))));
    networks
}

/// A network in which every node serves a name of its own and one that all serve.
fn served(program: &Program, count: usize, edges: &Edges, seed: u64) -> Net {
    let mut net = Net::new(program, count, edges, seed);
    for node in 0..count {
        net.serve(node, &format!("own{node}@d"), 1);
        net.serve(node, "all@d", 1);
    }
    net.settle();
    net
}

fn check_all(net: &mut Net, count: usize) {
    for node in 0..count {
        net.check(&format!("own{node}@d"), node);
        net.check("all@d", node);
    }
}

#[tokio::test]
async fn every_network_finds_shortest_ways_and_falls_silent() {
    let program = path_vector().await;
    for (name, count, edges) in networks() {
        eprintln!("{name}");
        let mut net = served(&program, count, &edges, 7);
        check_all(&mut net, count);
        assert_eq!(net.settle(), 0, "{name}: messages without news");
        // A claim that is only repeated is no news either.
        net.serve(0, "own0@d", 1);
        assert_eq!(net.settle(), 0, "{name}: messages about a known claim");
    }
}

#[tokio::test]
async fn a_lost_link_is_gone_around_or_what_is_behind_it_withdrawn() {
    let program = path_vector().await;
    for (name, count, edges) in networks() {
        eprintln!("{name}");
        let mut net = served(&program, count, &edges, 3);
        let mut random = Random(count as u64);
        for _ in 0..2 {
            let all: Vec<_> = edges.iter().copied().collect();
            let (a, b) = all[random.below(all.len())];
            net.cut(a, b);
            net.settle();
            check_all(&mut net, count);
            net.link(a, b);
            net.settle();
            check_all(&mut net, count);
        }
        assert_eq!(net.settle(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_partition_that_heals_is_one_network_again() {
    let program = path_vector().await;
    for seed in 1..=3 {
        let edges = random(20, seed);
        let mut net = served(&program, 20, &edges, seed);
        let between: Vec<_> = edges.iter().copied().filter(|(a, b)| (*a < 10) != (*b < 10)).collect();
        between.iter().for_each(|&(a, b)| net.cut(a, b));
        net.settle();
        check_all(&mut net, 20);
        let apart = net.plan(0, "own19@d", Some(19), None).choice;
        assert!(matches!(apart, Choice::Unroutable(_)), "{apart:?}");
        // The serving node goes on while nobody hears it.
        net.serve(19, "own19@d", 2);
        net.settle();
        between.iter().for_each(|&(a, b)| net.link(a, b));
        net.settle();
        check_all(&mut net, 20);
        assert_eq!(net.settle(), 0);
    }
}

#[tokio::test]
async fn changes_while_messages_are_on_the_way_leave_nothing_wrong() {
    let program = path_vector().await;
    for seed in 1..=3 {
        let mut net = served(&program, 12, &random(12, seed), seed);
        let mut random = Random(seed * 77);
        let mut linked = midplane_tests::sim::random(12, seed);
        for _ in 0..40 {
            let (a, b) = (random.below(12), random.below(12));
            let edge = (a.min(b), a.max(b));
            if a == b {
                net.settle();
            } else if linked.remove(&edge) {
                net.cut(a, b);
            } else {
                linked.insert(edge);
                net.link(a, b);
            }
        }
        net.settle();
        check_all(&mut net, 12);
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_trace_and_another_order_the_same_ways() {
    let program = path_vector().await;
    let run = |seed| {
        let mut net = served(&program, 20, &random(20, 9), seed);
        net.cut(0, 1);
        net.settle();
        let distance = |node| match net.plan(node, "own7@d", Some(7), None).choice {
            Choice::Forward(forward) => (forward.hops[0].next.clone(), forward.hops[0].distance),
            other => (format!("{other:?}"), 0),
        };
        let ways: Vec<_> = (0..20).map(distance).collect();
        (net.trace(), ways)
    };
    let (first, ways) = run(5);
    assert_eq!(run(5), (first, ways.clone()), "the same seed");
    let (other, other_ways) = run(6);
    assert_ne!(other, first, "the order is no part of the trace");
    assert_eq!(other_ways, ways, "the order decides the ways");
}
