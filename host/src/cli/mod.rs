//! The command line: one file per command. The only place that speaks with people.

mod advice;
mod apply;
mod blob;
pub mod build;
mod call;
mod client;
mod cluster;
pub mod componentize;
mod confirm;
mod consent;
mod dataset;
mod diff;
mod doctor;
mod events;
mod history;
mod init;
mod inspect;
mod key;
mod logs;
mod manual;
mod mesh;
mod output;
mod peer;
mod record;
mod replay;
mod rollback;
mod rollout;
mod run;
mod see;
mod swap;
mod toolchain;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Parser, Subcommand};

use crate::store::directory::Directory;
use crate::wasm::compile;
use crate::words::{Code, Fault, Outcome};
use output::Output;

/// The daily words, in the order in which a newcomer needs them.
const GROUPS: &str = "\
Start    init      make a node, and a mesh of its own
         join      make this node a member of a mesh
         run       run the node
         cluster   run a mesh of several nodes on this machine
Use      call      call a function by name
         dataset   entries that all nodes keep the same
Change   diff      what a manifest would change
         apply     sign a manifest and put it in force
         history   the generations that are kept
         rollback  put an earlier one in force again
         swap      another component in one slot of the node
See      status    how the node is
         plugins   what runs
         peers     who is linked
         routes    where names lead
         logs      what was said
         events    what happened
         doctor    what the machine gives, and what to change
         record    what a policy is told and decides, into a file
         replay    run a recording again, with the same component or another
Make     build     compile plugins to components
         inspect   what a component is and needs
Manage   mesh      operators, their roles, and the root
         peer      admit nodes to the mesh
         blob      keep, read and collect blobs
         key       make and show keys
         man       write the manual
         completions  what a shell completes";

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
    /// Another node that the command is for, through the one of this directory: an id, the beginning of one, or a label
    #[arg(long, global = true, env = "MIDPLANE_ON", value_name = "NODE")]
    on: Option<String>,
    /// The key of an operator, for --on and to sign with [default: operator.key of the data directory]
    #[arg(long, global = true, env = "MIDPLANE_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
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
    /// Read, write and watch entries that the nodes of the mesh keep the same
    Dataset(dataset::Dataset),
    /// What applying a manifest would change on the node, rights first; changes nothing
    Diff(diff::Diff),
    /// Sign a manifest and put it in force on the node
    Apply(apply::Apply),
    /// The generations that are kept on the node, and which one is in force
    History(history::History),
    /// Put an earlier generation in force again, on this node, until the next manifest is applied
    Rollback(rollback::Rollback),
    /// Run another component in one slot of the node, until the next manifest is applied or `rollback`
    Swap(swap::Swap),
    /// How the node is
    Status(see::Status),
    /// What runs on the node
    #[command(alias = "ls", alias = "ps")]
    Plugins(see::Plugins),
    /// Who is linked, who waits, and who is dialled
    Peers(see::Peers),
    /// Where names lead from this node
    Routes(see::Routes),
    /// What happened to the node: links, generations, refusals, traps, and who asked for what
    Events(events::Events),
    /// What plugins and the host have said
    Logs(logs::Logs),
    /// Write what a policy is told and what it decides into a file
    Record(record::Record),
    /// Run a recording again and compare what the policy decides
    Replay(replay::Replay),
    /// Compile plugins to components
    Build(build::Build),
    /// What a component is, what can be called, and what it needs
    Inspect(inspect::Inspect),
    /// Say who works in the mesh, and who does not any more
    Mesh(mesh::Mesh),
    /// Admit nodes to the mesh
    Peer(peer::Peer),
    /// Keep, read and collect blobs
    Blob(blob::Blob),
    /// Make and show keys
    Key(key::Key),
    /// What this machine gives a node, and what to change
    Doctor(doctor::Doctor),
    /// Write the manual
    Man(manual::Man),
    /// What a shell completes: `source <(midplane completions bash)`
    Completions(manual::Completions),
    /// Compile one component in this limited process
    #[command(hide = true)]
    CompileWorker { kind: String, reservation: u64, guard: u64, memory: u64 },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if error.use_stderr()
                && asks_for_json(std::env::args_os().skip(1), std::env::var_os("MIDPLANE_OUTPUT")) =>
        {
            let fault = misused(&error);
            Output::new(output::Form::Json).fault(&fault);
            return ExitCode::from(fault.code.exit());
        }
        // clap knows which stream and which code: 0 for --help, 2 for wrong usage.
        Err(error) => error.exit(),
    };
    let global = cli.global.clone();
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            let fault = advice::advised(fault);
            global.out().fault(&fault);
            ExitCode::from(fault.code.exit())
        }
    }
}

/// Whether a command line that cannot be read asks for JSON, also behind what is wrong with it.
fn asks_for_json(words: impl Iterator<Item = OsString>, otherwise: Option<OsString>) -> bool {
    let mut form = otherwise.and_then(|form| form.into_string().ok()).unwrap_or_default();
    let mut words = words.map_while(|word| word.into_string().ok()).take_while(|word| word != "--");
    while let Some(word) = words.next() {
        let value = word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o"));
        form = match value.map(|value| value.trim_start_matches('=')) {
            Some("") => words.next().unwrap_or_default(),
            None if word == "--output" => words.next().unwrap_or_default(),
            Some(value) => value.to_owned(),
            None => continue,
        };
    }
    form == "json"
}

/// What clap says of a command line, as a failure like all others.
fn misused(error: &clap::Error) -> Fault {
    let text = error.render().to_string();
    let (what, more) = text.split_once("\n\n").unwrap_or((&text, ""));
    let what = what.strip_prefix("error: ").unwrap_or(what).trim_end();
    let usage = more.lines().find_map(|line| line.strip_prefix("Usage: "));
    let fault = Fault::new(Code::Usage, what);
    fault.fix(usage.unwrap_or("`midplane --help` lists the commands"))
}

/// An argument as its own type reads it, with all that the type says of what it does not read.
fn parsed<T: FromStr<Err = Fault>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|fault: Fault| match fault.fix {
        Some(fix) => format!("{}; {fix}", fault.what),
        None => fault.what,
    })
}

impl Command {
    /// Whether it can be for another node.
    fn is_remote(&self) -> bool {
        if let Command::Mesh(command) = self {
            return command.is_remote();
        }
        matches!(
            self,
            Command::Status(_)
                | Command::Plugins(_)
                | Command::Peers(_)
                | Command::Routes(_)
                | Command::Logs(_)
                | Command::Events(_)
                | Command::Inspect(_)
                | Command::Call(_)
                | Command::Apply(_)
                | Command::Diff(_)
                | Command::History(_)
                | Command::Rollback(_)
                | Command::Swap(_)
                | Command::Blob(_)
                | Command::Dataset(_)
                | Command::Record(_)
        )
    }
}

fn dispatch(cli: Cli) -> Outcome<u8> {
    let global = &cli.global;
    if global.on.is_some() && !cli.command.is_remote() {
        let what = "--on is for commands that ask a node; this one is for this machine";
        return Err(Fault::new(Code::Usage, what).fix("leave out --on and MIDPLANE_ON"));
    }
    match cli.command {
        Command::Init(command) => command.run(global).map(done),
        Command::Join(command) => command.run(global).map(done),
        Command::Run(command) => command.run(global),
        Command::Cluster(command) => command.run(global),
        Command::Call(command) => command.run(global).map(done),
        Command::Dataset(command) => command.run(global).map(done),
        Command::Diff(command) => command.run(global).map(done),
        Command::Apply(command) => command.run(global).map(done),
        Command::History(command) => command.run(global).map(done),
        Command::Rollback(command) => command.run(global).map(done),
        Command::Swap(command) => command.run(global),
        Command::Status(command) => command.run(global).map(done),
        Command::Plugins(command) => command.run(global).map(done),
        Command::Peers(command) => command.run(global).map(done),
        Command::Routes(command) => command.run(global).map(done),
        Command::Events(command) => command.run(global).map(done),
        Command::Logs(command) => command.run(global).map(done),
        Command::Record(command) => command.run(global).map(done),
        Command::Replay(command) => command.run(global),
        Command::Build(command) => command.run(global).map(done),
        Command::Inspect(command) => command.run(global).map(done),
        Command::Mesh(command) => command.run(global).map(done),
        Command::Peer(command) => command.run(global).map(done),
        Command::Blob(command) => command.run(global).map(done),
        Command::Key(command) => command.run(global).map(done),
        Command::Doctor(command) => command.run(global),
        Command::Man(command) => command.run().map(done),
        Command::Completions(command) => command.run().map(done),
        Command::CompileWorker { kind, reservation, guard, memory } => {
            Ok(u8::try_from(compile::worker(&kind, reservation, guard, memory)).unwrap_or(1))
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

    /// A word with the name of a global flag would be read in its place, and panic.
    #[test]
    fn no_word_has_the_name_of_a_global_flag() {
        fn walk(command: &clap::Command, globals: &[String]) {
            for child in command.get_subcommands() {
                for argument in child.get_positionals() {
                    let id = argument.get_id().as_str();
                    assert!(!globals.iter().any(|global| global == id), "{}: {id}", child.get_name());
                }
                walk(child, globals);
            }
        }
        let command = Cli::command();
        let globals: Vec<String> = command
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| argument.get_id().to_string())
            .collect();
        assert!(globals.len() > 3, "{globals:?}");
        walk(&command, &globals);
    }
}
