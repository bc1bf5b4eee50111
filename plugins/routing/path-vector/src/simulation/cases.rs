//! What networks of this policy must do.

use super::*;

#[test]
fn every_network_finds_shortest_paths_and_falls_silent() {
    let mut nets = vec![Net::line(2), Net::line(8), Net::ring(9), Net::full(8)];
    nets.extend((1..12).map(|seed| Net::random(24, seed)));
    for mut net in nets {
        let count = net.nodes.len();
        for index in 0..count {
            net.serve(index, &format!("own{index}@d"), 1);
            net.serve(index, "all@d", 1);
        }
        net.settle();
        for index in 0..count {
            net.check_shortest(&format!("own{index}@d"), index);
            net.check_shortest("all@d", index);
        }
        assert_eq!(net.settle(), 0);
        // What is announced again without news is no news to anybody else.
        net.serve(0, "own0@d", 1);
        net.pass(1);
        assert_eq!(net.settle(), 0);
    }
}

#[test]
fn names_may_be_served_before_or_after_the_links() {
    for early in [true, false] {
        let mut net = Net::new(3, &[], 5);
        if early {
            net.serve(2, "x@d", 1);
        }
        net.link(0, 1);
        net.link(1, 2);
        net.settle();
        if !early {
            net.serve(2, "x@d", 1);
            net.settle();
        }
        net.check_shortest("x@d", 2);
        net.handle(2, Event::Withdrawn("x@d".into()));
        net.settle();
        assert!(net.hops(0, "x@d").is_empty() && net.hops(1, "x@d").is_empty());
    }
}

#[test]
fn a_lost_edge_of_a_ring_is_gone_around() {
    let mut net = Net::ring(7);
    net.serve(0, "x@d", 1);
    net.settle();
    assert_eq!(net.hops(1, "x@d")[0].distance, 1);
    net.cut(0, 1);
    let took = net.settle();
    net.check_shortest("x@d", 0);
    assert_eq!(net.hops(1, "x@d")[0].distance, 6);
    assert!(took <= 4 * 7, "{took} messages");
    net.link(0, 1);
    net.settle();
    net.check_shortest("x@d", 0);
    assert_eq!(net.hops(1, "x@d")[0].distance, 1);
}

#[test]
fn what_is_cut_off_is_forgotten_without_counting() {
    for mut net in [Net::line(9), Net::ring(9), Net::full(12), Net::random(20, 3), Net::random(40, 4)] {
        let count = net.nodes.len();
        let server = count;
        net.nodes.push(PathVector::init(setup(server, "{}", None, 0)).unwrap().0);
        net.answers.push(VecDeque::new());
        net.timers.push(Map::new());
        net.changed.push(Set::new());
        net.link(0, server);
        net.serve(server, "x@d", 1);
        net.settle();
        net.check_shortest("x@d", server);
        net.cut(0, server);
        let took = net.settle();
        net.check_shortest("x@d", server);
        // At most one announcement and one withdrawal per direction of a link and round.
        let bound = 2 * 2 * net.edges.len() * count.min(wire::PATH_MAX);
        assert!(took <= bound, "{took} messages, {bound} allowed");
    }
}

#[test]
fn random_changes_never_leave_a_wrong_route() {
    for seed in 1..=10 {
        let mut net = Net::random(14, seed);
        for index in 0..14 {
            net.serve(index, &format!("own{index}@d"), 1);
        }
        let mut random = Random(seed * 77);
        for round in 0..30 {
            let (a, b) = (random.below(14), random.below(14));
            match (a != b, net.edges.contains(&(a.min(b), a.max(b)))) {
                (true, true) => net.cut(a, b),
                (true, false) => net.link(a, b),
                _ => {}
            }
            if round % 3 == 0 {
                net.settle();
                (0..14).for_each(|index| net.check_shortest(&format!("own{index}@d"), index));
            }
        }
    }
}

#[test]
fn changed_answers_are_always_announced() {
    for seed in 1..=6 {
        let mut net = Net::random(10, seed);
        let mut random = Random(seed * 13);
        net.settle();
        let answer = |net: &Net, index| net.plan(index, "x@d", None, None).choice;
        let mut known: Vec<Choice> = (0..10).map(|index| answer(&net, index)).collect();
        for step in 0..40 {
            match random.below(4) {
                0 => net.serve(random.below(10), "x@d", step + 1),
                1 => net.handle(random.below(10), Event::Withdrawn("x@d".into())),
                _ => {
                    let (a, b) = (random.below(10), random.below(10));
                    match (a != b, net.edges.contains(&(a.min(b), a.max(b)))) {
                        (true, true) => net.cut(a, b),
                        (true, false) => net.link(a, b),
                        _ => {}
                    }
                }
            }
            net.settle();
            for index in 0..10 {
                let answer = answer(&net, index);
                let announced = std::mem::take(&mut net.changed[index]).contains("x@d");
                assert!(
                    announced || answer == known[index],
                    "{index} kept silent in step {step} of seed {seed}"
                );
                known[index] = answer;
            }
        }
        // Rest is rest: nothing is announced when nothing changes.
        net.pass(1);
        net.settle();
        assert!(net.changed.iter().all(Set::is_empty));
    }
}

#[test]
fn a_renewed_claim_travels_and_changes_no_plan() {
    let mut net = Net::line(4);
    net.serve(0, "x@d", 1);
    net.settle();
    net.changed.iter_mut().for_each(Set::clear);
    net.pass(CLAIM_MS / 2);
    net.serve(0, "x@d", 2);
    assert_eq!(net.settle(), 3);
    assert!(net.changed.iter().all(Set::is_empty), "{:?}", net.changed);
    net.pass(CLAIM_MS / 2 + 1);
    net.settle();
    net.check_shortest("x@d", 0);
}

#[test]
fn an_expired_claim_is_withdrawn_and_bounds_the_plan() {
    let mut net = Net::line(3);
    net.serve(0, "x@d", 1);
    net.settle();
    assert_eq!(net.plan(2, "x@d", None, None).valid_for, 60_000);
    net.pass(CLAIM_MS - 10);
    assert_eq!(net.plan(2, "x@d", None, None).valid_for, 10);
    net.changed.iter_mut().for_each(Set::clear);
    net.pass(2_000);
    net.settle();
    assert!(net.hops(1, "x@d").is_empty() && net.hops(2, "x@d").is_empty());
    assert!(net.changed[1].contains("x@d") && net.changed[2].contains("x@d"));
    net.serve(0, "x@d", 2);
    net.settle();
    net.check_shortest("x@d", 0);
}

#[test]
fn a_claim_that_does_not_hold_is_neither_used_nor_passed_on() {
    let mut net = Net::line(3);
    net.settle();
    let mut forged = claim("x@d", 0, 9, CLAIM_MS);
    forged.proof = b"bad".to_vec();
    net.handle(0, Event::Serving(forged));
    net.settle();
    assert!(net.hops(1, "x@d").is_empty() && net.hops(2, "x@d").is_empty());
    // A good claim with a smaller serial still counts, and a forged one does not harm it.
    net.serve(0, "x@d", 2);
    net.settle();
    net.check_shortest("x@d", 0);
    let mut forged = claim("x@d", 0, 9, CLAIM_MS);
    forged.proof = b"bad".to_vec();
    net.handle(0, Event::Serving(forged));
    net.settle();
    net.check_shortest("x@d", 0);
}

#[test]
fn plans_respect_to_and_from_and_the_pick() {
    let mut net = Net::ring(4);
    net.serve(1, "x@d", 1);
    net.serve(3, "x@d", 1);
    net.settle();
    let ways = |plan: Plan| match plan.choice {
        Choice::Forward(forward) => forward
            .hops
            .iter()
            .map(|hop| (hop.next[3..4].to_owned(), hop.to[3..4].to_owned(), hop.distance))
            .collect(),
        _ => Vec::new(),
    };
    let way = |next: &str, to: &str, distance| (next.to_owned(), to.to_owned(), distance);
    assert_eq!(ways(net.plan(0, "x@d", None, None)), [way("1", "1", 1), way("3", "3", 1)]);
    assert_eq!(ways(net.plan(0, "x@d", Some(3), None)), [way("3", "3", 1)]);
    assert_eq!(ways(net.plan(0, "x@d", None, Some(1))), [way("3", "3", 1)]);
    assert_eq!(net.plan(0, "x@d", None, None).scope, Scope::Neighbour);
    assert_eq!(net.plan(0, "x@d", Some(2), None).choice, net.plan(0, "nobody@d", None, None).choice);
    assert_eq!(net.plan(0, "nobody@d", None, None).scope, Scope::Target);
    assert_eq!(net.plan(1, "x@d", None, Some(0)).choice, Choice::Local);
    assert_eq!(ways(net.plan(1, "x@d", Some(3), Some(0))), [way("2", "3", 2)]);
    for (config, expect) in [
        ("{}", Pick::Failover),
        (r#"{"pick":"spread"}"#, Pick::Spread),
        (r#"{"pick":"sticky"}"#, Pick::Sticky),
    ] {
        assert_eq!(PathVector::init(setup(0, config, None, 0)).unwrap().0.pick, expect);
    }
    assert!(PathVector::init(setup(0, r#"{"pick":"best"}"#, None, 0)).err().unwrap().contains("best"));
}

#[test]
fn a_new_instance_goes_on_at_once_and_hears_what_it_missed() {
    let mut net = Net::ring(6);
    for index in 0..6 {
        net.serve(index, &format!("own{index}@d"), 1);
    }
    net.settle();
    for restarted in [1, 2, 1] {
        let state = net.nodes[restarted].save();
        // The others see no change of their links; what they send meanwhile arrives at the new instance.
        net.handle(3, Event::Withdrawn("own3@d".into()));
        let (policy, effects) = PathVector::init(setup(restarted, "{}", Some(state), net.now)).unwrap();
        net.nodes[restarted] = policy;
        net.carry_out(restarted, effects);
        net.serve(restarted, &format!("own{restarted}@d"), 1);
        for peer in [(restarted + 5) % 6, (restarted + 1) % 6] {
            net.handle(restarted, Event::Base(BaseEvent::LinkUp(link_to(peer))));
        }
        net.check_shortest("own0@d", 0);
        net.settle();
        assert!(net.hops(restarted, "own3@d").is_empty(), "a withdrawn route was kept");
        net.serve(3, "own3@d", 1);
        net.settle();
        (0..6).for_each(|index| net.check_shortest(&format!("own{index}@d"), index));
        assert_eq!(net.settle(), 0);
    }
}

#[test]
fn a_channel_that_begins_anew_loses_no_way() {
    let mut net = Net::line(4);
    for index in 0..4 {
        net.serve(index, &format!("own{index}@d"), 1);
    }
    net.settle();
    // What is on the way is lost with the old channel.
    net.handle(2, Event::Withdrawn("own2@d".into()));
    net.link(1, 2);
    for index in [0, 1, 3] {
        net.check_shortest(&format!("own{index}@d"), index);
    }
    net.settle();
    assert!(net.hops(0, "own2@d").is_empty(), "what was not repeated was kept");
    for index in [0, 1, 3] {
        net.check_shortest(&format!("own{index}@d"), index);
    }
    assert_eq!(net.settle(), 0);
}

#[test]
fn peers_without_this_protocol_or_with_little_trust_are_left_out() {
    let mut policy = PathVector::init(setup(0, "{}", None, 0)).unwrap().0;
    policy.handle(1, Event::Serving(claim("x@d", 0, 1, CLAIM_MS)));
    let link = |trust, slot: &str, protocol: &str| Link {
        trust,
        slots: vec![PeerSlot { slot: slot.into(), protocol: protocol.into() }],
        ..link_to(1)
    };
    let sends = |effects: Vec<Effect>| {
        effects.iter().filter(|effect| matches!(effect, Effect::Base(BaseEffect::Send(_)))).count()
    };
    for (link, expect) in [
        (link(Trust::Basic, "routing", wire::PROTOCOL), 0),
        (link(Trust::Trusted, "other", wire::PROTOCOL), 0),
        (link(Trust::Trusted, "routing", "path-vector/2"), 0),
        (link(Trust::Trusted, "routing", wire::PROTOCOL), 1),
    ] {
        assert_eq!(sends(policy.handle(1, Event::Base(BaseEvent::LinkUp(link)))), expect);
    }
    // Trust that falls ends the exchange, and trust that rises begins it.
    for (trust, expect) in [(Trust::Basic, 0), (Trust::Full, 1), (Trust::Trusted, 0)] {
        let link = link(trust, "routing", wire::PROTOCOL);
        assert_eq!(sends(policy.handle(1, Event::Base(BaseEvent::LinkChanged(link)))), expect, "{trust:?}");
    }
}

#[test]
fn thousands_of_names_are_told_in_portions_and_the_table_is_bounded() {
    let mut net = Net::new(2, &[], 1);
    for number in 0..5_000 {
        net.serve(0, &format!("n{number}@d"), 1);
    }
    net.link(0, 1);
    assert!(net.timers[0].contains_key(&FLUSH));
    net.settle();
    assert_eq!(net.nodes[1].table.iter().count(), crate::table::DESTINATIONS_MAX);
    assert!(net.nodes[1].table.iter().all(|(_, destination)| destination.usable(net.now)));
    net.cut(0, 1);
    net.settle();
    // What nobody reaches makes room.
    let mut other = Net::new(2, &[], 1);
    std::mem::swap(&mut other.nodes[1], &mut net.nodes[1]);
    other.serve(0, "new@d", 1);
    other.link(0, 1);
    other.settle();
    assert_eq!(other.hops(1, "new@d").len(), 1);
}

#[test]
fn garbage_is_survived() {
    let mut net = Net::line(2);
    net.serve(0, "x@d", 1);
    net.settle();
    let mut random = Random(9);
    for _ in 0..2_000 {
        let bytes = (0..random.below(60)).map(|_| (random.below(256)) as u8 & 0xf8).collect();
        net.nodes[1].handle(net.now, Event::Base(BaseEvent::Message(Message { peer: id(0), bytes })));
    }
    net.nodes[1].handle(net.now, Event::Base(BaseEvent::Message(Message { peer: id(7), bytes: vec![7] })));
    net.cut(0, 1);
    net.link(0, 1);
    net.settle();
    net.check_shortest("x@d", 0);
}

#[test]
fn equal_events_give_equal_effects() {
    let run = || {
        let mut net = Net::random(12, 4);
        (0..12).for_each(|index| net.serve(index, "all@d", 1));
        let took = net.settle();
        (took, net.nodes.iter().map(|node| node.save()).collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
}
