//! Meshes to which everything happens.

use super::*;

const DAY_MS: Millis = 86_400_000;

/// Whatever happens to a mesh, when it is whole again all nodes have the same; nothing that was accepted on a node is missing
/// unless something else was written to the entry; and what was removed last is not there.
#[test]
fn meshes_converge_after_anything() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let count = 2 + random.below(4);
        let ring: Vec<(usize, usize)> =
            (0..count).map(|n| (n, (n + 1) % count)).filter(|(a, b)| a != b).collect();
        let mut net = Net::new(count, &ring, seed);
        for host in &mut net.hosts {
            host.skew = random.below(120_000) as i64 - 60_000;
        }
        // Who wrote which key: each key has one writer, except for the shared ones.
        let mut last: Map<String, Option<Vec<u8>>> = Map::new();
        for turn in 0..120 {
            let node = random.below(count);
            match random.below(12) {
                0..4 => {
                    let key = format!("own{node}/{}", random.below(4));
                    let value = format!("{turn}").into_bytes();
                    net.put(node, &key, &value);
                    last.insert(key, Some(value));
                }
                4 => {
                    let key = format!("own{node}/{}", random.below(4));
                    net.remove(node, &key);
                    last.insert(key, None);
                }
                5 => net.put(node, &format!("shared{}", random.below(3)), format!("{turn}").as_bytes()),
                6 => net.remove(node, &format!("shared{}", random.below(3))),
                7 => {
                    let other = random.below(count);
                    let edge = (node.min(other), node.max(other));
                    if net.edges.contains(&edge) {
                        net.cut(edge.0, edge.1);
                    } else if node != other {
                        net.link(edge.0, edge.1);
                    }
                }
                8 => {
                    if let Some(&(a, b)) = net.edges.iter().nth(random.below(net.edges.len().max(1))) {
                        net.reset(a, b);
                    }
                }
                9 => net.start(node),
                10 => net.save(node),
                _ => {
                    // Removals are forgotten only after what a node knows has been saved, as in real time.
                    (0..count).for_each(|node| net.save(node));
                    net.pass(8 * DAY_MS);
                }
            }
            for _ in 0..random.below(30) {
                net.step();
            }
            net.now += random.below(2_000) as Millis;
            if random.below(8) == 0 {
                net.fire(SOON_MS);
            }
        }
        for &(a, b) in &ring {
            let edge = (a.min(b), a.max(b));
            if !net.edges.contains(&edge) {
                net.link(edge.0, edge.1);
            }
        }
        net.settle();
        net.check_same();
        for (key, value) in last {
            assert_eq!(net.read(0, &key), value, "seed {seed}: {key}");
        }
        // The policies know exactly what is in the tables.
        for host in &net.hosts {
            let table: Vec<_> = host.policy.table.iter().map(|(key, _)| key.clone()).collect();
            assert_eq!(table, host.rows.keys().cloned().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
