//! `midplane history`: the generations that are kept, and which one is in force.

use super::Global;
use super::client::{ASK, ask, block_on};
use super::output::table;
use crate::decisions::update::date;
use crate::words::Outcome;
use crate::words::control::{GenerationReport, Request};

/// Arguments of `midplane history`.
#[derive(clap::Args)]
pub(super) struct History {}

impl History {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let kept: Vec<GenerationReport> =
            block_on(global.timeout.or(Some(ASK)), ask(global, &Request::History))?;
        global.out().report(&kept, |kept| {
            let rows: Vec<Vec<String>> = kept.iter().map(row).collect();
            table(&["GENERATION", "IN FORCE", "SINCE", "SIGNED BY", "IT"], &rows)
        });
        Ok(())
    }
}

fn row(kept: &GenerationReport) -> Vec<String> {
    let signers: Vec<String> = kept.signers.iter().map(|key| key.short()).collect();
    let known = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        kept.version.to_string(),
        match kept.instead_of {
            _ if !kept.in_force => "-".to_owned(),
            Some(newest) => format!("yes, instead of {newest}"),
            None => "yes".to_owned(),
        },
        date(kept.since),
        known(signers.join(", ")),
        known(kept.change.clone()),
    ]
}
