//! `midplane completions` and `midplane man`: what shells and readers of manuals want, made from the very definition of the command line.

use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;

use super::Cli;
use crate::words::{Fault, Outcome};

/// Arguments of `midplane completions`.
#[derive(clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Outcome<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "midplane", &mut script);
        print(&script)
    }
}

/// Arguments of `midplane man`.
#[derive(clap::Args)]
pub(super) struct Man {
    /// Write a page for each command into this directory [default: the page of `midplane` to standard output]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self) -> Outcome<()> {
        let Some(out) = &self.out else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Fault::io("the manual", &error))?;
            return print(&page);
        };
        let failed = |error: std::io::Error| Fault::io(format!("cannot write to {}", out.display()), &error);
        std::fs::create_dir_all(out).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), out).map_err(failed)
    }
}

/// A reader that is gone, as `head` is, is no failure.
fn print(bytes: &[u8]) -> Outcome<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Fault::io("standard output", &error))
        }
        _ => Ok(()),
    }
}
