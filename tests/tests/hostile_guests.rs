//! Workloads that do harm: each ends by its own limit, under its own name, in time and within its memory, and nobody else notices.

use std::collections::BTreeSet;

use midplane::words::objects::{Instances, Limits};
use midplane_tests::cage::guests::{
    ASYNC, DATA, ELSEWHERE, FAMILIES, HANDLES, HOST_CALLS, MEMORIES, PROCESSOR, REFUSED, STACK, TRAPS,
};
use midplane_tests::cage::{Cage, Case, run};
use midplane_tests::guests::{UNHURRIED, call, hostile};
use midplane_tests::root;
use serde_json::json;

async fn all(cases: &[Case]) {
    let cage = Cage::open().await;
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(cage.check(case).await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A test for each family.
macro_rules! families {
    ($($name:ident: $cases:expr;)+) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            all($cases).await;
        }
    )+ };
}

families! {
    who_never_ends_is_ended: PROCESSOR;
    who_goes_too_deep_is_ended: STACK;
    who_takes_too_much_memory_is_ended: MEMORIES;
    who_does_what_cannot_be_is_ended: TRAPS;
    who_asks_too_much_of_the_host_is_ended: HOST_CALLS;
    whose_data_is_not_what_it_says_is_ended: DATA;
    who_misuses_handles_is_ended: HANDLES;
    whose_tasks_break_the_rules_is_ended: ASYNC;
    who_wants_what_there_is_not_is_refused: REFUSED;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_says_moves_no_cursor_and_begins_no_line() {
    let cage = Cage::open().await;
    let slot = "skill/say-escapes";
    let workload =
        cage.bench.prepare(slot, &hostile("say-escapes"), UNHURRIED, Instances::Fresh).await.unwrap();
    let fault = run(&workload).await.unwrap_err();
    let lines = cage.bench.log.tail(usize::MAX, None);
    let said: Vec<_> = lines.iter().filter(|line| line.text.contains("all is lost")).collect();
    assert_eq!(said.len(), 1, "{lines:?}");
    assert!(said[0].source == slot && said[0].text.starts_with("ctx"), "{said:?}");
    let report = fault.report.unwrap();
    assert_eq!(report.last_lines, [said[0].text.clone()]);
    for text in [&fault.what, &said[0].text] {
        assert!(text.contains("all is lost") && text.chars().all(midplane::log::is_text), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_all_the_time_pushes_out_nobody() {
    let cage = Cage::open().await;
    let limits = Limits { host_calls: 200_000, ..UNHURRIED };
    let workload =
        cage.bench.prepare("say-nothing", &hostile("say-nothing"), limits, Instances::Fresh).await.unwrap();
    cage.bench.log.plugin("quiet", midplane::log::Level::Info, "still here");
    let calling = async move { call(&workload, "run", json!([])).await };
    let (answer, _) = cage.watch("say-nothing", calling).await;
    answer.unwrap();
    assert_eq!(cage.bench.log.tail(10, Some("quiet")).len(), 1, "the flood pushed out what others said");
    let lines = cage.bench.log.tail(usize::MAX, Some("say-nothing")).len();
    assert!(lines > 1_000 && lines < 10_000, "{lines} lines");
}

#[test]
fn every_file_has_its_row() {
    let rows: Vec<&str> = FAMILIES.iter().flat_map(|(_, cases)| cases.iter().map(|case| case.file)).collect();
    let distinct: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(rows.len(), distinct.len(), "a file has two rows");
    let known: BTreeSet<String> = distinct.iter().chain(ELSEWHERE).map(|name| (*name).to_owned()).collect();
    let files = std::fs::read_dir(root().join("tests/hostile")).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".wat").unwrap_or(&name).to_owned())
        .collect();
    assert_eq!(files, known);
    // What differs only in its name is one case.
    let contents: BTreeSet<Vec<u8>> = distinct.iter().map(|file| hostile(file)).collect();
    assert_eq!(contents.len(), distinct.len(), "two files are the same component");
    assert!(distinct.len() >= 60, "only {} hostile components", distinct.len());
}
