//! Components that do harm: each ends by its own limit, under its own name, and nobody else notices.

use std::time::Duration;

use midplane::clock;
use midplane::words::objects::{Instances, Limits};
use midplane::words::{Code, Fault};
use midplane_tests::guests::{Bench, TIGHT, answers, built, call, hostile};
use serde_json::{Value, json};

/// Where a guest ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// While its one instance for the preflight is made.
    Start,
    /// In the call of `run`.
    Run,
}

/// A file of `tests/hostile`, when its guest ends, with which code, and what the report's limit says.
type Case = (&'static str, When, Code, &'static str);

const CASES: &[Case] = &[
    ("loop", When::Run, Code::Deadline, "the deadline of 400 ms"),
    ("loop-start", When::Start, Code::Deadline, "the deadline of 5000 ms"),
    ("trap-start", When::Start, Code::Trap, "unreachable code"),
    ("recursion", When::Run, Code::StackOverflow, "the stack of 512 KiB"),
    ("grow-once", When::Run, Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 67174400"),
    ("grow-steps", When::Run, Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 4259840"),
    (
        "memory-initial",
        When::Start,
        Code::MemoryLimit,
        "limits.memory = 4194304 bytes; it asked for 67108864",
    ),
    ("table-grow", When::Run, Code::MemoryLimit, "10000 table elements"),
    ("memories", When::Start, Code::MemoryLimit, "limits.memory = 4194304 bytes; it asked for 5242880"),
    ("unreachable", When::Run, Code::Trap, "unreachable code"),
    ("bounds", When::Run, Code::Trap, "out of bounds memory access"),
    ("divide", When::Run, Code::Trap, "integer divide by zero"),
    ("signature", When::Run, Code::Trap, "indirect call type mismatch"),
    ("flood-calls", When::Run, Code::HostCallLimit, "limits.host-calls = 100"),
    ("flood-bytes", When::Run, Code::HostCallLimit, "limits.host-bytes = 65536"),
    ("flood-random", When::Run, Code::HostCallLimit, "limits.host-calls = 100"),
    ("random-large", When::Run, Code::Trap, "exceeds limit 65536"),
    ("realloc-trap", When::Run, Code::Trap, "unreachable code"),
    ("realloc-loop", When::Run, Code::Deadline, "the deadline of 400 ms"),
    ("realloc-beyond", When::Run, Code::Trap, "realloc return"),
    ("realloc-misaligned", When::Run, Code::Trap, "realloc return"),
    ("post-return", When::Run, Code::Trap, "unreachable code"),
    ("result-pointer", When::Run, Code::Trap, "out of bounds"),
    ("result-length", When::Run, Code::Trap, "out of bounds"),
    ("result-wraps", When::Run, Code::Trap, "out of bounds"),
    ("result-utf8", When::Run, Code::Trap, "utf-8"),
    ("result-list", When::Run, Code::Trap, "out of bounds"),
    ("result-list-misaligned", When::Run, Code::Trap, "aligned"),
    ("result-area", When::Run, Code::Trap, "aligned"),
    ("result-area-beyond", When::Run, Code::Trap, "out of bounds"),
    ("enum", When::Run, Code::Trap, "discriminant"),
    ("variant", When::Run, Code::Trap, "discriminant"),
    ("char", When::Run, Code::Trap, "char"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_guest_ends_by_name_and_its_neighbour_goes_on() {
    let bench = Bench::default();
    let neighbour = bench.neighbour().await;
    let mut wrong = Vec::new();
    for (file, when, code, limit) in CASES {
        let slot = format!("skill/{file}");
        let prepared = bench.prepare(&slot, &hostile(file), TIGHT, Instances::Fresh).await;
        let (fault, function) = match (prepared, when) {
            (Err(fault), When::Start) => (fault, "start"),
            (Ok(workload), When::Run) => (run(&workload).await, "run"),
            (Err(fault), When::Run) => (fault, "run"),
            (Ok(_), When::Start) => (Fault::new(Code::Internal, "it started"), "start"),
        };
        let fits = fault.report.as_ref().is_some_and(|report| {
            report.plugin == slot && report.function == function && report.limit.contains(limit)
        });
        if fault.code != *code || !fits || !fault.what.starts_with(&format!("{slot} {function} ")) {
            wrong.push(format!("{file}: {fault} {:?}", fault.report));
        }
        answers(&neighbour).await;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

async fn run(workload: &std::sync::Arc<midplane::wasm::workload::Workload>) -> Fault {
    let takes_argument = workload.functions().any(|function| !function.params.is_empty());
    let arguments = match workload.functions().next().map(|function| function.signature()) {
        Some(text) if text.contains("list<u32>") => json!([[1, 2, 3]]),
        _ if takes_argument => json!(["text"]),
        _ => json!([]),
    };
    match call(workload, "run", arguments).await {
        Ok(value) => Fault::new(Code::Internal, format!("it answered {value}")),
        Err(fault) => fault,
    }
}

#[tokio::test]
async fn what_the_contract_lets_a_guest_say_carelessly_is_read_strictly() {
    let bench = Bench::default();
    for (file, expect) in [("flags", json!(["a", "b"])), ("bool", json!(true))] {
        let workload = bench.prepare(file, &hostile(file), TIGHT, Instances::Fresh).await.unwrap();
        assert_eq!(call(&workload, "run", json!([])).await.unwrap(), expect, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_answers_while_more_guests_loop_than_there_are_threads() {
    let bench = Bench::default();
    let neighbour = bench.neighbour().await;
    let limits = Limits { deadline_ms: 1_500, ..TIGHT };
    let looping = bench.prepare("loop", &hostile("loop"), limits, Instances::Fresh).await.unwrap();
    let loops: Vec<_> = (0..3)
        .map(|_| {
            let looping = looping.clone();
            tokio::spawn(async move { call(&looping, "run", json!([])).await })
        })
        .collect();
    let mut took = Vec::new();
    while loops.iter().any(|task| !task.is_finished()) {
        let started = clock::monotonic();
        // On the threads where the loops are, not beside them.
        let neighbour = neighbour.clone();
        tokio::spawn(async move { answers(&neighbour).await }).await.unwrap();
        took.push(started.elapsed());
    }
    took.sort_unstable();
    assert!(took.len() >= 10, "only {} answers", took.len());
    let most = took[took.len() * 9 / 10];
    assert!(most < Duration::from_millis(100), "nine of ten answers took up to {most:?}");
    for task in loops {
        assert_eq!(task.await.unwrap().unwrap_err().code, Code::Deadline);
    }
}

#[tokio::test]
async fn a_call_may_have_less_time_than_its_plugin() {
    let bench = Bench::default();
    let limits = Limits { deadline_ms: 60_000, ..TIGHT };
    let looping = bench.prepare("loop", &hostile("loop"), limits, Instances::Fresh).await.unwrap();
    let started = clock::monotonic();
    let request = midplane::wasm::workload::Request {
        function: "run",
        form: midplane::words::schema::Form::Json,
        arguments: &[0x80],
        deadline: clock::deadline_in(200),
    };
    let fault = looping.call(request).await.err().unwrap();
    assert_eq!(fault.code, Code::Deadline);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
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
        let workload = bench.prepare("state", &hostile("state"), TIGHT, instances).await.unwrap();
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
        let workload = bench.prepare("state", &hostile("state"), TIGHT, instances).await.unwrap();
        for (end, code) in [("poison", Code::Trap), ("spin", Code::Deadline)] {
            call(&workload, "count", json!([])).await.unwrap();
            assert_eq!(call(&workload, end, json!([])).await.unwrap_err().code, code);
            assert_eq!(call(&workload, "kept", json!([])).await.unwrap(), json!(0), "{instances:?}");
            assert_eq!(call(&workload, "count", json!([])).await.unwrap(), json!(1), "{instances:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_singleton_wait_for_each_other() {
    let bench = Bench::default();
    let workload = bench.prepare("state", &hostile("state"), TIGHT, Instances::Singleton).await.unwrap();
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
    let limits = Limits { concurrency: 2, deadline_ms: 1_000, ..TIGHT };
    let workload = bench.prepare("state", &hostile("state"), limits, Instances::Fresh).await.unwrap();
    let spins: Vec<_> = (0..3)
        .map(|_| {
            let workload = workload.clone();
            tokio::spawn(async move { call(&workload, "spin", json!([])).await.unwrap_err() })
        })
        .collect();
    let mut faults = Vec::new();
    for task in spins {
        faults.push(task.await.unwrap());
    }
    faults.sort_by_key(|fault| fault.code == Code::Busy);
    let codes: Vec<Code> = faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, [Code::Deadline, Code::Deadline, Code::Busy]);
    assert!(faults[2].what.contains("state: 2 calls") && faults[2].not_started(), "{}", faults[2]);
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
async fn what_does_not_fit_into_a_place_of_the_pool_is_too_large() {
    let bench = Bench::default();
    for (file, text) in [("table-initial", "table"), ("memories-many", "memories")] {
        let fault = bench.prepare(file, &hostile(file), TIGHT, Instances::Fresh).await.err().unwrap();
        assert_eq!(fault.code, Code::TooLarge, "{fault}");
        assert!(fault.what.contains(text), "{fault}");
    }
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
