//! Workloads that do harm: what is left of them, and what others see of it. Each way to end is a row of `hostile_guests.rs`.

use std::sync::Arc;
use std::time::Duration;

use midplane::clock;
use midplane::words::Code;
use midplane::words::objects::{Instances, Kind, Limits};
use midplane::words::schema::Form;
use midplane_tests::guests::{
    Bench, PATIENCE, TIGHT, UNHURRIED, answers, built, call, hostile, start, until,
};
use serde_json::{Value, json};

#[tokio::test]
async fn what_the_contract_lets_a_guest_say_carelessly_is_read_strictly() {
    let bench = Bench::default();
    for (file, expect) in [("flags", json!(["a", "b"])), ("bool", json!(true))] {
        let workload = bench.prepare(file, &hostile(file), UNHURRIED, Instances::Fresh).await.unwrap();
        assert_eq!(call(&workload, "run", json!([])).await.unwrap(), expect, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_answers_while_more_guests_loop_than_there_are_threads() {
    let bench = Bench::default();
    let neighbour = bench.neighbour().await;
    let limits = Limits { deadline_ms: 60_000, ..TIGHT };
    let looping = bench.prepare("loop", &hostile("loop"), limits, Instances::Fresh).await.unwrap();
    let loops: Vec<_> = (0..3)
        .map(|_| {
            let looping = looping.clone();
            tokio::spawn(async move { call(&looping, "run", json!([])).await })
        })
        .collect();
    for _ in 0..20 {
        // On the threads where the loops are, not beside them.
        let neighbour = neighbour.clone();
        tokio::spawn(async move { answers(&neighbour).await }).await.unwrap();
    }
    // Whoever had to wait for a loop would have had its answer after the end of that.
    assert!(loops.iter().all(|task| !task.is_finished()), "a loop is over");
    loops.iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn a_call_may_have_less_time_than_its_plugin() {
    let bench = Bench::default();
    let limits = Limits { deadline_ms: 60_000, ..TIGHT };
    let looping = bench.prepare("loop", &hostile("loop"), limits, Instances::Fresh).await.unwrap();
    let started = clock::monotonic();
    let request = midplane::wasm::workload::Request {
        function: "run",
        form: Form::Json,
        arguments: &[0x80],
        deadline: clock::deadline_in(200),
        rights: midplane::decisions::rights::Rights::own(midplane_tests::guests::nobody()),
    };
    let fault = looping.call(request).await.err().unwrap();
    assert_eq!(fault.code, Code::Deadline);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(30), "{took:?}");
    let limit = fault.report.unwrap().limit;
    let ms: u64 = limit.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(ms <= 200, "{limit}");
}

#[tokio::test]
async fn state_lives_as_long_as_the_manifest_says() {
    let bench = Bench::default();
    for (instances, expect) in [
        (Instances::Fresh, [1, 1, 1, 1]),
        (Instances::Reuse(1), [1, 1, 1, 1]),
        (Instances::Reuse(3), [1, 2, 3, 1]),
        (Instances::Singleton, [1, 2, 3, 4]),
    ] {
        let workload = bench.prepare("state", &hostile("state"), UNHURRIED, instances).await.unwrap();
        let mut found = Vec::new();
        for _ in 0..4 {
            found.push(call(&workload, "count", json!([])).await.unwrap());
        }
        assert_eq!(Value::from(found), json!(expect), "{instances:?}");
    }
}

#[tokio::test]
async fn what_a_trap_or_a_deadline_left_behind_is_never_seen() {
    let bench = Bench::default();
    for instances in [Instances::Fresh, Instances::Reuse(100), Instances::Singleton] {
        let workload = bench.prepare("state", &hostile("state"), UNHURRIED, instances).await.unwrap();
        for (end, code, time) in
            [("poison", Code::Trap, PATIENCE), ("spin", Code::Deadline, Duration::from_millis(200))]
        {
            call(&workload, "count", json!([])).await.unwrap();
            let fault = start(&workload, end, Form::Json, &[0x80], time).await.err().unwrap();
            assert_eq!(fault.code, code);
            assert_eq!(call(&workload, "kept", json!([])).await.unwrap(), json!(0), "{instances:?}");
            assert_eq!(call(&workload, "count", json!([])).await.unwrap(), json!(1), "{instances:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_singleton_wait_for_each_other() {
    let bench = Bench::default();
    let workload = bench.prepare("state", &hostile("state"), UNHURRIED, Instances::Singleton).await.unwrap();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let workload = workload.clone();
            tokio::spawn(async move { call(&workload, "count", json!([])).await.unwrap() })
        })
        .collect();
    let mut found = Vec::new();
    for task in calls {
        found.push(task.await.unwrap().as_u64().unwrap());
    }
    found.sort_unstable();
    assert_eq!(found, (1..=50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_more_than_allowed_is_turned_away() {
    let bench = Bench::default();
    let limits = Limits { concurrency: 2, deadline_ms: 5_000, ..TIGHT };
    let workload = bench.prepare("state", &hostile("state"), limits, Instances::Fresh).await.unwrap();
    let spins: Vec<_> = (0..2)
        .map(|_| {
            let workload = workload.clone();
            tokio::spawn(async move { call(&workload, "spin", json!([])).await.unwrap_err() })
        })
        .collect();
    until("both are under way", || workload.places().in_flight() == 2).await;
    let fault = call(&workload, "spin", json!([])).await.unwrap_err();
    assert_eq!(fault.code, Code::Busy);
    assert!(fault.what.contains("state: 2 calls") && fault.not_started(), "{fault}");
    for task in spins {
        assert_eq!(task.await.unwrap().code, Code::Deadline);
    }
    call(&workload, "count", json!([])).await.unwrap();
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_the_guest_along() {
    let bench = Bench::default();
    let limits = Limits { concurrency: 1, deadline_ms: 60_000, ..TIGHT };
    let workload = bench.prepare("state", &hostile("state"), limits, Instances::Fresh).await.unwrap();
    let spin = call(&workload, "spin", json!([]));
    assert!(tokio::time::timeout(Duration::from_millis(50), spin).await.is_err());
    call(&workload, "count", json!([])).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_component_are_refused() {
    let bench = Bench::default();
    let math1 = built("skill/math1");
    let module = wat::parse_str("(module (func (export \"run\")))").unwrap();
    let mut flipped = 0;
    let mut cases =
        vec![(Vec::new(), "not a WebAssembly component"), (b"garbage".to_vec(), "not a WebAssembly")];
    cases.push((module, "not a WebAssembly component"));
    cases.extend([7, 9, 100, math1.len() / 2, math1.len() - 1].map(|end| (math1[..end].to_vec(), "")));
    for (bytes, text) in cases {
        let fault = bench.prepare("broken", &bytes, TIGHT, Instances::Fresh).await.err().unwrap();
        assert_eq!(fault.code, Code::BadComponent, "{} bytes: {fault}", bytes.len());
        assert!(fault.what.contains(text), "{fault}");
    }
    // One changed byte may leave a component; then it runs within its limits or is refused, and the process goes on.
    for at in (8..math1.len()).step_by(math1.len() / 40) {
        let mut bytes = math1.clone();
        bytes[at] ^= 0x15;
        match bench.prepare("flipped", &bytes, TIGHT, Instances::Fresh).await {
            Ok(workload) => drop(call(&workload, "add", json!([3, 4])).await),
            Err(fault) => {
                assert!(fault.code != Code::Internal, "byte {at}: {fault}");
                flipped += 1;
            }
        }
    }
    assert!(flipped > 0, "no changed byte was noticed");
    answers(&bench.neighbour().await).await;
}

#[tokio::test]
async fn compiled_code_that_was_touched_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::default();
    bench.neighbour().await;
    let entries = || std::fs::read_dir(bench.code()).unwrap().map(|entry| entry.unwrap().path());
    let path = entries().next().unwrap();
    assert_eq!(entries().count(), 1, "one component, one file");
    let good = std::fs::read(&path).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let write = |bytes: &[u8]| {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        mode(0o600);
    };
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let elsewhere = bench.code().join("elsewhere");
    let touches: [(&str, &dyn Fn()); 7] = [
        ("a byte of the code", &|| write(&flip(good.len() / 2))),
        ("the last byte", &|| write(&flip(good.len() - 1))),
        ("a byte of the MAC", &|| write(&flip(0))),
        ("cut off", &|| write(&good[..good.len() - 1])),
        ("shorter than its MAC", &|| write(&good[..31])),
        ("readable by others", &|| mode(0o644)),
        ("a symbolic link", &|| {
            std::fs::rename(&path, &elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        }),
    ];
    for (name, touch) in touches {
        touch();
        answers(&bench.neighbour().await).await;
        let status = std::fs::symlink_metadata(&path).unwrap();
        assert!(status.is_file() && status.permissions().mode() & 0o777 == 0o600, "{name}: was not replaced");
        assert_eq!(std::fs::read(&path).unwrap(), good, "{name}: was not compiled again");
    }
    // Untouched it is used as it is: the same file stays.
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    answers(&bench.neighbour().await).await;
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap()), inode);
}

#[tokio::test]
async fn plugins_of_one_component_share_its_code() {
    let bench = Bench::default();
    let math1 = built("skill/math1");
    let first = bench.component(Kind::Skill, &math1).await.unwrap();
    let second = bench.component(Kind::Skill, &math1).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "it was mapped twice");
    let weak = Arc::downgrade(&first);
    drop((first, second));
    assert!(weak.upgrade().is_none(), "code that nobody uses is held on to");
    // As a policy it would run on another engine, with other code.
    let fault = bench.component(Kind::Routing, &built("gateway/hello-p3")).await.err().unwrap();
    assert_eq!(fault.code, Code::BadComponent, "{fault}");
}
