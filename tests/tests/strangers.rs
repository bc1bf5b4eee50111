//! Many who knock and do not belong here: each is sent away, and the node says so without being drowned in it.

use midplane::net::Endpoint;
use midplane_tests::forge::block_on;
use midplane_tests::{Manifest, Mesh, PATIENCE, eventually};

/// How many knock.
const STRANGERS: usize = 200;

#[test]
fn a_flood_of_strangers_is_told_in_a_few_lines_and_a_number() {
    let mesh = Mesh::of(["n1", "n2"]);
    let [n1, n2] = mesh.nodes();
    n1.start(&[]);
    n2.start(&["--peer", &n1.peer()]);
    mesh.apply(&Manifest::policies(), &[n1, n2]);
    n1.links_to(n2);
    block_on(async {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let endpoint = Endpoint::bind(&key, (n1.address().ip(), 0).into()).unwrap();
        for _ in 0..STRANGERS {
            // Goes again without a word.
            drop(endpoint.connect(n1.address(), None).await.unwrap());
        }
    });
    let refused = "did not get in: ";
    eventually(PATIENCE, || {
        let lines = n1.cli(["logs", "host", "-n", "1000"]).ok();
        let told = lines.matches(refused).count();
        let numbers = lines
            .lines()
            .filter_map(|line| line.split_once(" more did not get in lately")?.0.split(' ').next_back());
        let counted: usize = numbers.map(|number| number.parse::<usize>().unwrap()).sum();
        if told + counted == STRANGERS {
            Ok(told)
        } else {
            Err(format!("{told} told and {counted} counted in {lines}"))
        }
    });
    let told = n1.cli(["logs", "host", "-n", "1000"]).ok().matches(refused).count();
    assert!((1..STRANGERS / 2).contains(&told), "{told} lines");
    let events = n1.cli(["-o", "json", "events", "-n", "1000"]).ok();
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let refused = events.filter(|event| event["event"] == "peer-refused");
    let times: u64 = refused.map(|event| event["times"].as_u64().unwrap()).sum();
    assert_eq!(times as usize, told, "what is not told is no event either");
    // Those who belong here notice nothing.
    n1.links_to(n2);
    let said = n1.said();
    assert_eq!(said.matches("is up").count(), 1, "{said}");
}
