//! Components that explode a compiler: they end its process at most, within its time, and cost the node little.

use std::collections::BTreeSet;
use std::time::Duration;

use midplane::words::Code;
use midplane::words::objects::{Instances, Limits};
use midplane_tests::cage::bombs::BOMBS;
use midplane_tests::cage::{Cage, GRACE, SLACK};
use midplane_tests::guests::call;
use serde_json::json;

/// The wall-clock time of a compile worker.
const WORKER: Duration = Duration::from_secs(120);

/// Half of them in each test, so that none takes minutes.
async fn explode(part: usize) {
    let cage = Cage::open().await;
    let mut wrong = Vec::new();
    for (name, make) in BOMBS.iter().skip(part).step_by(2) {
        let wasm = make();
        let size = wasm.len() as u64;
        let bench = cage.bench.clone();
        let prepare = async move { bench.prepare(name, &wasm, Limits::default(), Instances::Fresh).await };
        let (prepared, cost) = cage.watch(name, prepare).await;
        println!("{name}: {} KiB, {cost:?}, {:?}", size >> 10, prepared.as_ref().err());
        match prepared {
            Ok(workload) => drop(call(&workload, "run", json!([])).await.unwrap()),
            Err(fault) => {
                let named = match fault.code {
                    Code::TooBigToCompile => fault.what.contains("cannot be compiled within the limits"),
                    Code::BadComponent => fault.what.contains("not valid"),
                    Code::TooLarge => fault.what.contains("does not fit this node"),
                    Code::WrongWorld => fault.what.contains("no function that can be called"),
                    _ => false,
                };
                if !named {
                    wrong.push(format!("{name}: {fault}"));
                }
            }
        }
        if cost.took > WORKER + GRACE {
            wrong.push(format!("{name}: {cost:?}"));
        }
        // The validator in this process may hold some times what it reads; the code is held, its compiler is not here.
        let most = 3 * SLACK + 4 * size;
        if cost.grew > most {
            wrong.push(format!("{name}: grew by {} MiB, more than {} MiB", cost.grew >> 20, most >> 20));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_explodes_the_compiler_costs_this_process_little() {
    explode(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_does_the_rest() {
    explode(1).await;
}

#[tokio::test]
async fn no_two_are_the_same() {
    // Making them takes memory, which is measured in the others.
    let _alone = Cage::open().await;
    let names: BTreeSet<&str> = BOMBS.iter().map(|(name, _)| *name).collect();
    let contents: BTreeSet<Vec<u8>> = BOMBS.iter().map(|(_, make)| make()).collect();
    assert_eq!((names.len(), contents.len()), (BOMBS.len(), BOMBS.len()));
}
