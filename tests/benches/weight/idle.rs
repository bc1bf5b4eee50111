//! What a linked node costs while nothing happens.

use std::time::Duration;

use midplane::clock;

use super::Failure;
use super::mesh::{Mesh, prepare};
use super::table::{Aim, Row, Spread};

/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(30);
/// Before that: what a start leaves behind settles.
const SETTLE: Duration = Duration::from_secs(5);
/// Nodes in this process, two links between them.
const NODES: f64 = 3.0;

/// Measures the rows.
pub fn rows() -> Result<Vec<Row>, Failure> {
    let prepared = prepare()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mesh = Mesh::start(prepared).await?;
        tokio::time::sleep(SETTLE).await;
        let before = read(&mesh)?;
        let started = clock::monotonic();
        tokio::time::sleep(QUIET).await;
        let after = read(&mesh)?;
        let hours = started.elapsed().as_secs_f64() / 3_600.0;
        mesh.stop().await;
        let row = |what: &str, unit, value: f64| Row {
            what: what.to_owned(),
            unit,
            ours: Spread::of([value / hours]),
            floor: None,
            aim: Aim::None,
        };
        Ok(vec![
            row("idle: sent over one link by one end, an hour", "KiB", (after.sent - before.sent) / 1_024.0),
            row(
                "idle: written to disk by a node, an hour",
                "KiB",
                (after.written - before.written) / NODES / 1_024.0,
            ),
            row("idle: processor time of a node, an hour", "s", (after.processor - before.processor) / NODES),
        ])
    })
}

struct Reading {
    sent: f64,
    written: f64,
    processor: f64,
}

fn read(mesh: &Mesh) -> Result<Reading, Failure> {
    let known = mesh.node(1).links.known();
    let sent: u64 = known.values().map(|known| known.connection.stats().udp_tx.bytes).sum();
    let io = std::fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).ok_or("no write_bytes")?;
    Ok(Reading { sent: sent as f64, written: written.trim().parse()?, processor: processor()? })
}

/// Seconds of processor time of this process, all threads.
fn processor() -> Result<f64, Failure> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += stat.split_whitespace().next().ok_or("no schedstat")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}
