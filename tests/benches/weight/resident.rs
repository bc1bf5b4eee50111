//! Memory of a node that does nothing.

use super::Failure;
use super::node::{Prepared, component};
use super::table::{Aim, Row, Spread};

/// Measurements of each row.
const ROUNDS: usize = 5;
/// What is wanted of a node with nothing in it, of each byte of a component, and of each policy.
const NODE_MIB: f64 = 18.0;
const TIMES_COMPONENT: f64 = 4.0;
const POLICY_MIB: f64 = 32.0 / 1_024.0;
const POLICIES: [&str; 3] = ["discovery/static", "admission/basic", "routing/path-vector"];

/// Measures the rows.
pub fn rows() -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for skills in [1, 10, 100] {
        rows.extend(rows_of(skills)?);
    }
    Ok(rows)
}

fn rows_of(skills: usize) -> Result<[Row; 2], Failure> {
    let prepared = Prepared::new(skills)?;
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let running = prepared.spawn()?;
        prepared.until_ready(&["call", "skill1@bench", "add", "[3,4]"])?;
        let held = running.resident()?;
        whole.push(held.whole as f64 / f64::from(1 << 20));
        own.push(held.own as f64 / f64::from(1 << 20));
    }
    let mut bytes = 0;
    // Once, however many skills: they share its code.
    for name in POLICIES.into_iter().chain(["skill/math1"]) {
        bytes += std::fs::metadata(component(name))?.len();
    }
    let aim =
        NODE_MIB + TIMES_COMPONENT * bytes as f64 / f64::from(1 << 20) + POLICY_MIB * POLICIES.len() as f64;
    let row = |what: String, ours, aim| Row { what, unit: "MiB", ours: Spread::of(ours), floor: None, aim };
    let what = format!("resident, idle, three policies and {skills} skills of one component");
    let aim = Aim::AtMost((aim * 10.0).round() / 10.0);
    Ok([
        row(what, whole, aim),
        row("of it the node's own, not pages of the program's file".to_owned(), own, Aim::None),
    ])
}
