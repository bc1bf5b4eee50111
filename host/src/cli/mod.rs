//! The command line: one file per command. The only place that speaks with people.

mod apply;
pub mod build;
mod call;
mod client;
mod cluster;
pub mod componentize;
mod init;
mod inspect;
mod key;
mod logs;
mod output;
mod peer;
mod run;
mod see;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::store::directory::Directory;
use crate::wasm::compile;
use crate::words::Outcome;
use output::Output;

/// The daily words, in the order in which a newcomer needs them.
const GROUPS: &str = "\
Start    init      make a node, and a mesh of its own
         join      make this node a member of a mesh
         run       run the node
         cluster   run a mesh of several nodes on this machine
Use      call      call a function by name
Change   apply     sign a manifest and put it in force
See      status    how the node is
         plugins   what runs
         peers     who is linked
         routes    where names lead
         logs      what was said
Make     build     compile plugins to components
         inspect   what a component is and needs
Manage   peer      admit nodes to the mesh
         key       make and show keys";

/// A peer-to-peer node in which every capability is a WebAssembly plugin.
#[derive(Parser)]
#[command(
    name = "midplane",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    help_template = format!("{{about}}\n\nUsage: {{usage}}\n\n{GROUPS}\n\nOptions:\n{{options}}\n\n`midplane COMMAND --help` says more.")
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Global {
    /// The node's directory [default: $XDG_DATA_HOME/midplane]
    #[arg(long, global = true, env = "MIDPLANE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Form of the output
    #[arg(
        short,
        long,
        global = true,
        env = "MIDPLANE_OUTPUT",
        value_enum,
        default_value = "text",
        value_name = "FORM"
    )]
    output: output::Form,
    /// Time for the whole command, for example 5s or 2m
    #[arg(long, global = true, env = "MIDPLANE_TIMEOUT", value_parser = humantime::parse_duration, value_name = "TIME")]
    timeout: Option<std::time::Duration>,
    /// Say more on standard error
    #[arg(short, long, global = true)]
    verbose: bool,
}

impl Global {
    pub(crate) fn directory(&self) -> Directory {
        let path = self.data_dir.clone().unwrap_or_else(|| {
            let home =
                |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let share = home("XDG_DATA_HOME").or_else(|| home("HOME").map(|home| home.join(".local/share")));
            share.unwrap_or_default().join("midplane")
        });
        Directory::new(path)
    }

    pub(crate) fn out(&self) -> Output {
        Output::new(self.output)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a node, and a mesh of its own
    Init(init::Init),
    /// Make this node a member of a mesh, with the file that `peer admit` wrote
    Join(init::Join),
    /// Run the node until it is told to stop
    Run(run::Run),
    /// Run a mesh of several nodes on this machine until ctrl-c
    Cluster(cluster::Cluster),
    /// Call a function by name
    #[command(alias = "exec")]
    Call(call::Call),
    /// Sign a manifest and put it in force on the node
    Apply(apply::Apply),
    /// How the node is
    Status(see::Status),
    /// What runs on the node
    #[command(alias = "ls", alias = "ps")]
    Plugins(see::Plugins),
    /// Who is linked, who waits, and who is dialled
    Peers(see::Peers),
    /// Where names lead from this node
    Routes(see::Routes),
    /// What plugins and the host have said
    Logs(logs::Logs),
    /// Compile plugins to components
    Build(build::Build),
    /// What a component is, what can be called, and what it needs
    Inspect(inspect::Inspect),
    /// Admit nodes to the mesh
    Peer(peer::Peer),
    /// Make and show keys
    Key(key::Key),
    /// Compile one component in this limited process
    #[command(hide = true)]
    CompileWorker { kind: String, reservation: u64, guard: u64 },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap knows which stream and which code: 0 for --help, 2 for wrong usage.
        Err(error) => error.exit(),
    };
    let global = cli.global.clone();
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            global.out().fault(&fault);
            ExitCode::from(fault.code.exit())
        }
    }
}

fn dispatch(cli: Cli) -> Outcome<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Init(command) => command.run(global).map(done),
        Command::Join(command) => command.run(global).map(done),
        Command::Run(command) => command.run(global),
        Command::Cluster(command) => command.run(global),
        Command::Call(command) => command.run(global).map(done),
        Command::Apply(command) => command.run(global).map(done),
        Command::Status(command) => command.run(global).map(done),
        Command::Plugins(command) => command.run(global).map(done),
        Command::Peers(command) => command.run(global).map(done),
        Command::Routes(command) => command.run(global).map(done),
        Command::Logs(command) => command.run(global).map(done),
        Command::Build(command) => command.run(global).map(done),
        Command::Inspect(command) => command.run(global).map(done),
        Command::Peer(command) => command.run(global).map(done),
        Command::Key(command) => command.run(global).map(done),
        Command::CompileWorker { kind, reservation, guard } => {
            Ok(u8::try_from(compile::worker(&kind, reservation, guard)).unwrap_or(1))
        }
    }
}

fn done((): ()) -> u8 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_groups_show_every_command_once() {
        Cli::command().debug_assert();
        let mut shown: Vec<&str> =
            GROUPS.lines().filter_map(|line| line.get(9..)?.split_whitespace().next()).collect();
        shown.sort_unstable();
        let command = Cli::command();
        let mut known: Vec<&str> = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        known.sort_unstable();
        assert_eq!(shown, known);
    }
}
