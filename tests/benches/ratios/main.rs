//! `make bench`: what the host costs, as ratios. Each row is measured against the least that the same work can cost with the
//! libraries underneath, in the same process and the same run, in turns; so the machine's speed and its noise cancel out.
//!
//! Everything runs on one core: three nodes in a line share one single-threaded runtime, and so do the floors.
//!
//! `cargo bench -p midplane-tests --bench ratios -- local` measures one part: `local`, `remote`, `routing`, `gateway` or `blobs`.

mod blobs;
mod floors;
mod gateway;
mod local;
mod mesh;
mod remote;
mod routing;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use mesh::Mesh;

/// A run that takes longer than this hangs.
const WHOLE_RUN: Duration = Duration::from_secs(300);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ratios: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let prepared = mesh::prepare()?;
    // Every thread that is started from here on inherits it.
    pin()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(WHOLE_RUN, measure(prepared)).await? })
}

async fn measure(prepared: mesh::Prepared) -> Result<(), Failure> {
    let mesh = Mesh::start(prepared).await?;
    // Cargo adds `--bench` of its own.
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut rows = Vec::new();
    if wanted("local") {
        rows.extend(local::rows(&mesh).await?);
    }
    if wanted("remote") {
        rows.extend(remote::rows(&mesh).await?);
    }
    if wanted("routing") {
        rows.extend(routing::rows(&mesh).await?);
    }
    if wanted("gateway") {
        rows.extend(gateway::rows(&mesh).await?);
    }
    if wanted("blobs") {
        rows.extend(blobs::rows(&mesh).await?);
    }
    table::print(&rows);
    mesh.stop().await;
    Ok(())
}

/// Keeps this thread on the last of its cores.
fn pin() -> Result<(), Failure> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).ok_or("no core to run on")?;
    let mut one = CpuSet::new();
    one.set(last);
    Ok(sched_setaffinity(None, &one)?)
}
