//! The `midplane` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    midplane::cli::main()
}
