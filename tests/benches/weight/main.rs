//! `make bench`, second part: what a node weighs. How long it takes to its first answer, how much memory it holds, how many
//! instances can live in it, and what it costs while nothing happens.
//!
//! `cargo bench -p midplane-tests --bench weight -- start` measures one part: `start`, `resident`, `live` or `idle`.

#[path = "../ratios/mesh.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod mesh;
mod node;
#[path = "../ratios/table.rs"]
#[allow(dead_code, reason = "the other bench uses the rest")]
mod table;

mod idle;
mod live;
mod resident;
mod start;

use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if std::env::var_os(start::FLOOR).is_some() {
        start::floor();
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("weight: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    // Cargo adds `--bench` of its own.
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut rows = Vec::new();
    if wanted("start") {
        rows.push(start::row()?);
    }
    if wanted("resident") {
        rows.extend(resident::rows()?);
    }
    if wanted("live") {
        rows.extend(live::rows()?);
    }
    if wanted("idle") {
        rows.extend(idle::rows()?);
    }
    table::print(&rows);
    Ok(())
}
