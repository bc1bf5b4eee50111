//! From the start of a process to the first answer, as somebody sees it who calls from the command line.

use std::process::Command;
use std::time::Instant;

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::Failure;
use super::node::Prepared;
use super::table::{Aim, Row, Spread};

/// Set for the process that is the floor.
pub const FLOOR: &str = "MIDPLANE_BENCH_FLOOR";
/// Starts that are measured.
const ROUNDS: usize = 15;

/// A process with wasmtime in it that runs one empty function and ends.
pub fn floor() {
    let engine = Engine::default();
    let text = "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
         (func (export \"f\") (canon lift (core func $i \"f\"))))";
    let component = Component::new(&engine, wat::parse_str(text).expect("a component")).expect("it compiles");
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &component).expect("it starts");
    let function = instance.get_typed_func::<(), ()>(&mut store, "f").expect("it is there");
    function.call(&mut store, ()).expect("it answers");
}

/// Measures the row.
pub fn row() -> Result<Row, Failure> {
    let prepared = Prepared::new(1)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let running = prepared.spawn()?;
        prepared.until_ready(&["call", "skill1@bench", "add", "[3,4]"])?;
        ours.push(started.elapsed().as_secs_f64() * 1_000.0);
        drop(running);
        let started = Instant::now();
        let status = Command::new(std::env::current_exe()?).env(FLOOR, "1").status()?;
        floor.push(started.elapsed().as_secs_f64() * 1_000.0);
        assert!(status.success(), "the floor ended with {status}");
    }
    Ok(Row {
        what: "start of the process to the first answer, warm cache · an empty process with wasmtime"
            .to_owned(),
        unit: "ms",
        ours: Spread::of(ours),
        floor: Some(Spread::of(floor)),
        aim: Aim::TimesAtMost(2.5),
    })
}
