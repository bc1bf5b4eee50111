//! Ten thousand instances that live at the same time: half of them hold a state between calls, the others are in the middle of
//! a stream that nobody reads on.

use std::sync::Arc;

use midplane::clock;
use midplane::decisions::rights::Rights;
use midplane::decisions::sizing::plan;
use midplane::wasm::engine::POOLS;
use midplane::wasm::machine;
use midplane::wasm::workload::{Answer, Request};
use midplane::words::Digest;
use midplane::words::objects::{Instances, Kind, Limits};
use midplane::words::schema::Form;
use midplane_tests::guests::{Bench, built, call, resident, with_engines};
use serde_json::json;

use super::Failure;
use super::table::{Aim, Row, Spread};

/// Instances of each half: one half in each pool.
const HALF: u32 = 5_000;

/// Shows it once.
pub fn rows() -> Result<Vec<Row>, Failure> {
    let fits = plan(&machine::read(), POOLS, HALF);
    if fits.instances < HALF {
        let why: Vec<String> =
            fits.reasons.iter().map(|reason| format!("{reason} ({})", reason.fix)).collect();
        eprintln!("weight: this machine does not hold {HALF} instances in a pool: {}", why.join("; "));
    }
    with_engines(fits.instances);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bench = Bench::default();
        let limits = Limits { concurrency: HALF, ..Limits::default() };
        let workload = bench.prepare("live", &built("test/skill/endless"), limits, Instances::Fresh).await?;
        let math = built("skill/math1");
        let math = (bench.component(Kind::Skill, &math).await?, Digest::of(&math));
        let (before, mapped) = (resident(), mappings()?);
        let mut actors = Vec::new();
        for _ in 0..fits.instances {
            // It keeps the instance that its preparation made.
            actors.push(bench.seat("actor", &math.0, math.1, limits, Instances::Singleton).await?);
        }
        let mut streams = Vec::new();
        for _ in 0..fits.instances {
            let (deadline, rights) = (clock::deadline_in(600_000), Rights::own([0; 32].into()));
            let request =
                Request { function: "count", form: Form::Cbor, arguments: &[0x80], deadline, rights };
            let Answer::Stream(mut items) = Arc::clone(&workload).call(request).await? else {
                return Err("no stream".into());
            };
            items.next().await.ok_or("the stream has ended")??;
            streams.push(items);
        }
        let answers = call(&actors[actors.len() / 2], "add", json!([3, 4])).await?;
        assert_eq!(answers, json!(7), "they answer while all live");
        let count = (actors.len() + streams.len()) as f64;
        let each = (resident() - before) as f64 / 1_024.0 / count;
        let mappings = (mappings()? - mapped) as f64 / count;
        let told = |what: &str, unit, value| Row {
            what: what.to_owned(),
            unit,
            ours: Spread::of([value]),
            floor: None,
            aim: Aim::None,
        };
        Ok(vec![
            told("live instances of one process", "", count),
            told("memory of each", "KiB", each),
            told("mappings of each", "", mappings),
        ])
    })
}

fn mappings() -> Result<usize, Failure> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().count())
}
