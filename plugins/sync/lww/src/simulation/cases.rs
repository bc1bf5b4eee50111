use super::*;

const DAY_MS: Millis = 86_400_000;

#[test]
fn a_change_reaches_everybody_and_a_quiet_mesh_is_silent() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3), (3, 0)], 1);
    net.put(0, "motd", b"hello");
    net.put(2, "other", b"");
    net.settle();
    net.check_same();
    assert_eq!(net.read(3, "motd").unwrap(), b"hello");
    assert_eq!(net.read(0, "other").unwrap(), b"");
    net.remove(1, "motd");
    net.settle();
    net.check_same();
    assert_eq!(net.read(0, "motd"), None);
    assert_eq!((net.lost(), net.removals(2)), (0, 1));
    let sent = net.sent;
    net.settle();
    assert_eq!(net.sent, sent);
}

#[test]
fn writes_on_both_sides_of_a_cut_have_one_winner_and_each_loser_is_counted() {
    for seed in 0..20 {
        let mut net = Net::new(4, &[(0, 1), (2, 3), (1, 2)], seed);
        net.put(0, "k", b"before");
        net.put(0, "calm", b"before");
        net.settle();
        net.cut(1, 2);
        net.put(0, "k", b"left");
        net.settle();
        net.now += 5;
        net.put(3, "k", b"right");
        net.put(3, "calm", b"after");
        // One side goes on, and knows of its own first write: that one is not lost to its second.
        net.now += 5;
        net.put(1, "k", b"left again");
        net.settle();
        assert_eq!((net.lost(), net.read(3, "k").unwrap()), (0, b"right".to_vec()));
        net.link(1, 2);
        net.settle();
        net.check_same();
        assert_eq!(net.read(2, "k").unwrap(), b"left again");
        let losses: Set<(NodeId, NodeId)> = net
            .hosts
            .iter()
            .flat_map(|host| host.lost.iter().map(|loss| (loss.loser.clone(), loss.winner.clone())))
            .collect();
        assert_eq!(losses, [(id(3), id(1))].into(), "seed {seed}");
        let most = net.hosts.iter().map(|host| host.lost.len()).max();
        assert_eq!(most, Some(1), "no node counts it twice");
        // Who writes with knowledge of both ends the conflict.
        let before = net.lost();
        net.put(2, "k", b"both");
        net.settle();
        net.check_same();
        assert_eq!(net.lost(), before);
    }
}

#[test]
fn of_two_writes_at_one_time_the_greater_node_wins_everywhere() {
    let mut net = Net::new(2, &[], 1);
    net.put(0, "k", b"zero");
    net.put(1, "k", b"one");
    net.link(0, 1);
    net.settle();
    assert_eq!([net.read(0, "k"), net.read(1, "k")], [Some(b"one".to_vec()), Some(b"one".to_vec())]);
}

#[test]
fn what_was_removed_stays_removed_whoever_was_away_and_however_long() {
    let mut net = Net::new(3, &[(0, 1), (1, 2)], 3);
    for key in ["a", "b", "c"] {
        net.put(2, key, b"value");
    }
    net.settle();
    net.cut(1, 2);
    net.remove(0, "a");
    net.settle();
    // Longer than removals are kept: nobody remembers it.
    net.pass(30 * DAY_MS);
    assert_eq!([net.removals(0), net.removals(1)], [0, 0]);
    // While it was away it wrote as well, over something that is still there and something new.
    net.put(2, "b", b"away");
    net.put(2, "new", b"away");
    net.link(1, 2);
    net.settle();
    net.check_same();
    assert_eq!(net.read(2, "a"), None);
    for (key, value) in [("b", b"away".as_slice()), ("c", b"value"), ("new", b"away")] {
        assert_eq!(net.read(0, key).unwrap(), value, "{key}");
    }
    // The same name may be used again.
    net.put(0, "a", b"anew");
    net.settle();
    net.pass(30 * DAY_MS);
    net.settle();
    net.check_same();
    assert_eq!(net.read(2, "a").unwrap(), b"anew");
    assert_eq!(net.removals(0), 0);
}

#[test]
fn who_comes_later_knows_what_was_removed_before_it_came() {
    let mut net = Net::new(4, &[(0, 1), (1, 3)], 4);
    net.put(3, "k", b"value");
    net.settle();
    net.cut(1, 3);
    net.remove(0, "k");
    net.settle();
    net.pass(30 * DAY_MS);
    // The third one has never seen the entry. What it is told when it comes says that it was removed.
    net.link(0, 2);
    net.settle();
    net.link(2, 3);
    net.settle();
    net.check_same();
    assert!(net.visible(0).is_empty());
}

#[test]
fn a_node_that_writes_over_what_was_removed_while_it_was_away_wins() {
    let mut net = Net::new(2, &[(0, 1)], 5);
    net.put(0, "k", b"old");
    net.settle();
    net.cut(0, 1);
    net.remove(0, "k");
    net.now += 10;
    net.put(1, "k", b"later");
    net.pass(30 * DAY_MS);
    net.link(0, 1);
    net.settle();
    net.check_same();
    assert_eq!(net.read(0, "k").unwrap(), b"later");
}

#[test]
fn removals_are_kept_while_a_linked_peer_has_not_heard_of_them() {
    let mut net = Net::with(2, &[(0, 1)], 6, r#"{"keep-removed": "2min"}"#);
    net.put(0, "k", b"value");
    net.settle();
    net.remove(0, "k");
    assert_eq!(net.removals(0), 1);
    net.pass(60_000);
    assert_eq!(net.removals(0), 1);
    net.settle();
    net.pass(120_000);
    assert_eq!([net.removals(0), net.removals(1)], [0, 0]);
    assert!(net.visible(1).is_empty());
}

#[test]
fn a_table_much_larger_than_a_channel_goes_over_and_only_once() {
    let mut net = Net::new(2, &[], 7);
    for n in 0..200 {
        net.put(0, &format!("{n:0>100}"), &vec![n as u8; 32 << 10]);
    }
    net.link(0, 1);
    net.settle();
    net.check_same();
    let (values, sent) = (200 * (32 << 10), net.sent);
    assert!(sent < values + values / 10, "{sent} bytes were sent for {values}");
    net.reset(0, 1);
    net.settle();
    assert!(net.sent - sent < 200 << 10, "an exchange of equals sent {} bytes", net.sent - sent);
}

#[test]
fn of_many_changes_of_one_entry_a_slow_peer_gets_the_last() {
    let mut net = Net::new(2, &[(0, 1)], 8);
    net.settle();
    let before = net.sent;
    for n in 0..200_u8 {
        net.put(0, "k", &vec![n; 32 << 10]);
    }
    net.settle();
    net.check_same();
    assert!(net.sent - before < 1 << 20, "{} bytes", net.sent - before);
}

#[test]
fn a_clock_far_ahead_does_not_win_before_its_time() {
    let mut net = Net::new(2, &[(0, 1)], 9);
    net.settle();
    net.hosts[1].skew = 3_600_000;
    net.put(1, "k", b"from the future");
    net.put(1, "l", b"from the future");
    net.settle();
    assert_eq!(net.read(0, "k"), None);
    assert!(net.hosts[0].warnings.iter().any(|text| text.contains("too far ahead")));
    net.put(0, "k", b"now");
    net.settle();
    assert_eq!(net.read(0, "k").unwrap(), b"now");
    // What was not taken is not taken for removed, when it is shown again.
    net.reset(0, 1);
    net.settle();
    assert_eq!(net.read(1, "l").unwrap(), b"from the future");
    // Nothing of it is lost: when the time has come it is asked for again.
    for _ in 0..70 {
        net.now += 60_000;
        while net.fire(0) {}
        net.settle();
    }
    net.check_same();
    assert_eq!(net.read(0, "l").unwrap(), b"from the future");
}

#[test]
fn a_clock_that_steps_back_does_not_lose_what_is_written_after() {
    let mut net = Net::new(2, &[(0, 1)], 10);
    net.put(0, "k", b"before");
    net.settle();
    // The machine starts again with a clock of the year before.
    net.hosts[0].skew = -365 * DAY_MS as i64;
    net.hosts[0].seen = 0;
    net.start(0);
    net.put(0, "k", b"after");
    net.settle();
    net.check_same();
    assert_eq!(net.read(1, "k").unwrap(), b"after");
}

#[test]
fn datasets_that_come_later_are_exchanged_then_and_never_taken_for_removed() {
    let mut net = Net::new(2, &[(0, 1)], 11);
    net.hosts[0].datasets = datasets(&["config", "routes"]);
    net.start(0);
    net.wish(0, "routes", "r", Wish::Put(b"way".to_vec()));
    net.put(0, "k", b"value");
    net.settle();
    net.save(1);
    assert_eq!(net.visible(1).len(), 1);
    assert_eq!(net.hosts[1].warnings, Vec::<String>::new());
    net.hosts[1].datasets = datasets(&["config", "routes"]);
    net.start(1);
    net.settle();
    net.check_same();
    assert_eq!(net.visible(0).len(), 2);
}

#[test]
fn rows_of_another_strategy_are_older_than_everything() {
    let mut net = Net::new(2, &[], 12);
    for index in [0, 1] {
        let place = ("config".to_owned(), "k".to_owned());
        net.hosts[index].rows.insert(place, (Some(vec![index as u8]), b"something else".to_vec()));
        net.start(index);
    }
    net.link(0, 1);
    net.settle();
    net.check_same();
    net.put(0, "k", b"new");
    net.settle();
    assert_eq!(net.read(1, "k").unwrap(), b"new");
}

#[test]
fn what_cannot_be_kept_is_refused_or_left_out() {
    let mut net = Net::new(2, &[(0, 1)], 13);
    for n in 0..10_000 {
        net.put(0, &n.to_string(), b"");
    }
    net.put(0, "one more", b"");
    assert_eq!(net.hosts[0].refused.len(), 1);
    assert!(net.hosts[0].refused[0].contains("10000 rows"), "{:?}", net.hosts[0].refused);
    // There is always room to remove something.
    net.remove(0, "5");
    net.settle();
    net.check_same();
}

#[test]
fn messages_that_nobody_should_send_do_no_harm() {
    let mut net = Net::new(2, &[(0, 1)], 14);
    net.put(0, "k", b"value");
    net.settle();
    let stamp = crate::Stamp { time: (u64::MAX, 0), node: id(9), gone: false };
    let item = |dataset: &str, key: &str, value: usize, stamp: &crate::Stamp| Item {
        key: (dataset.into(), key.into()),
        value: Some(vec![0; value]),
        meta: crate::Meta::followed_by(None, stamp.clone()),
    };
    use crate::wire::Item;
    let fine = crate::Stamp { time: (net.now, 0), ..stamp.clone() };
    let wrong = [
        item("other", "k", 1, &fine),
        item("config", "", 1, &fine),
        item("config", "a\nb", 1, &fine),
        item("config", &"k".repeat(257), 1, &fine),
        item("config", "k", (32 << 10) + 1, &fine),
        item("config", "k", 1, &stamp),
    ];
    for item in wrong {
        for bytes in wire::entries([&item]) {
            net.handle(0, Event::Base(BaseEvent::Message(Message { peer: id(1), bytes })));
        }
    }
    for bytes in [vec![], vec![1], vec![2, 255, 255], vec![200; 100], vec![4, 255, 255, 255, 255, 15]] {
        net.handle(0, Event::Base(BaseEvent::Message(Message { peer: id(1), bytes })));
    }
    assert_eq!(net.visible(0).len(), 1);
    assert_eq!(net.read(0, "k").unwrap(), b"value");
    assert_eq!(net.hosts[0].warnings.len(), 1, "said once: {:?}", net.hosts[0].warnings);
}

#[test]
fn configs_are_checked() {
    let net = Net::new(1, &[], 1);
    for (config, good) in [
        (r#"{"keep-removed": "2min"}"#, true),
        (r#"{"keep-removed": "30d"}"#, true),
        (r#"{"keep-removed": "119s"}"#, false),
        (r#"{"keep-removed": "7"}"#, false),
        (r#"{"keep-removed": "d"}"#, false),
        (r#"{"keep-removed": "99999999999999d"}"#, false),
        (r#"{"keep": "7d"}"#, false),
    ] {
        let setup = Setup { config: config.into(), ..net.setup(0, None) };
        assert_eq!(LastWriterWins::init(setup).is_ok(), good, "{config}");
    }
}
