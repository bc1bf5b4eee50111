//! `midplane mesh`: who works in the mesh, and the root that says so.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde_bytes::ByteBuf;

use super::Global;
use super::client::{ASK, Conversation, Target, block_on};
use super::init::LIFE_MS;
use super::output::table;
use crate::clock;
use crate::decisions::roots::{self, Change};
use crate::decisions::update::{self, Trusted};
use crate::decisions::{cose, roles};
use crate::store::directory::Directory;
use crate::store::trust::{TrustFiles, TrustState};
use crate::store::{files, keys};
use crate::words::control::{Request, RootUpdated};
use crate::words::count::count;
use crate::words::objects::root::Roots;
use crate::words::objects::{Operator, Role};
use crate::words::{Code, Fault, NodeId, Outcome, Verb, note};

/// Arguments of `midplane mesh`.
#[derive(clap::Args)]
pub(super) struct Mesh {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say who may look at nodes, operate them, and deploy to them
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Let a key count for nothing any more: a node's or an operator's. Cannot be taken back
    Revoke {
        /// A node's or operator's id, or the file of its key
        #[arg(value_name = "KEY")]
        who: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Put newer roots in force on a node; it tells its linked peers
    Update {
        /// A file that --out has written
        file: PathBuf,
    },
    /// Show which role may ask for what
    Roles,
}

#[derive(Subcommand)]
enum OperatorCommand {
    /// Make a key an operator's, or give an operator another role
    Add {
        /// Its id, or the file of the key
        #[arg(value_name = "KEY")]
        who: String,
        /// view, operate or deploy; each may do what those before it may
        #[arg(long, value_parser = parse_role)]
        role: Role,
        #[command(flatten)]
        signing: Signing,
    },
    /// Let a key be no operator any more
    Rm {
        /// Its id, or the file of the key
        #[arg(value_name = "KEY")]
        who: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// List the operators of the root that this node has
    Ls,
}

/// How the next root is signed, and where it goes.
#[derive(clap::Args)]
struct Signing {
    /// The key of an owner; several times where several have to sign [default: owner.key of the data directory]
    #[arg(long = "owner", value_name = "FILE")]
    owners: Vec<PathBuf>,
    /// Also write the roots to a file, for `mesh update` on nodes that no peer tells
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    key: NodeId,
    role: Role,
    revoked: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    verb: &'static str,
    #[serde(flatten)]
    roles: std::collections::BTreeMap<&'static str, bool>,
}

impl Mesh {
    /// Whether the command can be for another node.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.command, Command::Update { .. })
    }

    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        match &self.command {
            Command::Operator(OperatorCommand::Add { who, role, signing }) => {
                signing.change(global, Change::Operator(parse_key(who)?, *role))
            }
            Command::Operator(OperatorCommand::Rm { who, signing }) => {
                signing.change(global, Change::NoOperator(parse_key(who)?))
            }
            Command::Operator(OperatorCommand::Ls) => list(global),
            Command::Revoke { who, signing } => signing.change(global, Change::Revoke(parse_key(who)?)),
            Command::Update { file } => {
                let chain = files::read_limited(file, Roots::BYTES_MAX as u64)?
                    .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is not there", file.display())))?;
                let chain: Roots = note::read("chain of roots", &chain, Roots::BYTES_MAX).map_err(|_| {
                    let what = format!("{} is not what `midplane mesh … --out` writes", file.display());
                    Fault::new(Code::BadObject, what)
                })?;
                let updated = put_in_force(global, &chain)?;
                global.out().report(&updated, text);
                Ok(())
            }
            Command::Roles => {
                show_roles(global);
                Ok(())
            }
        }
    }
}

impl Signing {
    /// Signs the next root and puts it in force on the node of this directory.
    fn change(&self, global: &Global, change: Change) -> Outcome<()> {
        let directory = global.directory();
        let (state, trusted) = trusted(&directory)?;
        let owners: Vec<SigningKey> = match self.owners.as_slice() {
            [] => vec![
                keys::load(&directory.owner_key())
                    .map_err(|fault| fault.fix("--owner FILE with the key of an owner"))?,
            ],
            files => files.iter().map(|file| keys::load(file)).collect::<Outcome<_>>()?,
        };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
        let now = clock::now_ms();
        let root = roots::next(&trusted, change, nonce, now, now.saturating_add(LIFE_MS))?;
        let signed = cose::sign(&root, &owners.iter().collect::<Vec<_>>())?;
        // What nodes would refuse is refused here.
        update::accept_root(Some(&trusted), &signed, now)
            .map_err(|fault| fault.fix("--owner FILE for each owner that has to sign"))?;
        let roots: Vec<ByteBuf> = state.roots.into_iter().chain([ByteBuf::from(signed)]).collect();
        let chain = Roots { roots };
        if let Some(out) = &self.out {
            files::hand_out(out, &note::write("chain of roots", &chain, Roots::BYTES_MAX)?)?;
        }
        let updated = put_in_force(global, &chain)?;
        global.out().report(&updated, text);
        Ok(())
    }
}

/// Hands the roots to the node; where none runs, writes them for its next start.
fn put_in_force(global: &Global, chain: &Roots) -> Outcome<RootUpdated> {
    let bytes = note::write("chain of roots", chain, Roots::BYTES_MAX)?;
    let asked = block_on(global.timeout.or(Some(ASK)), async {
        let mut conversation =
            Conversation::start_with(Target::from(global), &Request::UpdateRoot, &bytes).await?;
        conversation.report().await
    });
    match asked {
        Err(fault) if fault.code == Code::NotRunning && global.on.is_none() => {}
        other => return other,
    }
    let directory = global.directory();
    let _lock = directory.lock("midplane mesh")?;
    let (mut state, current) = trusted(&directory)?;
    let roots: Vec<&[u8]> = chain.roots.iter().map(|root| root.as_slice()).collect();
    let now = clock::now_ms().max(state.time_floor);
    let newer = roots::newer(&current, &roots, now)?;
    state.roots.extend(newer.roots.into_iter().map(ByteBuf::from));
    state.time_floor = now;
    TrustFiles::new(directory.clone(), &keys::load(&directory.node_key())?).save(&state)?;
    let root = &newer.trusted.root;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Ok(RootUpdated {
        from: current.root.version,
        to: root.version,
        operators: count(root.operators.len()),
        revoked: count(root.revoked.len()),
    })
}

/// What the node of this directory trusts.
fn trusted(directory: &Directory) -> Outcome<(TrustState, Trusted)> {
    directory.require_initialised()?;
    let state = TrustFiles::new(directory.clone(), &keys::load(&directory.node_key())?).load()?;
    let roots: Vec<&[u8]> = state.roots.iter().map(|root| root.as_slice()).collect();
    if roots.is_empty() {
        return Err(Fault::new(Code::NotFound, "this node belongs to no mesh").fix("`midplane join FILE`"));
    }
    let trusted = update::restore_roots(&roots)?;
    Ok((state, trusted))
}

fn list(global: &Global) -> Outcome<()> {
    let root = trusted(&global.directory())?.1.root;
    let listed = |operator: &Operator| Listed {
        key: operator.key,
        role: operator.role,
        revoked: root.is_revoked(&operator.key),
    };
    let operators: Vec<Listed> = root.operators.iter().map(listed).collect();
    global.out().report(&operators, |operators| {
        let state = |revoked| if revoked { "revoked" } else { "" }.to_owned();
        let rows: Vec<Vec<String>> = operators
            .iter()
            .map(|operator| {
                vec![operator.key.to_string(), operator.role.to_string(), state(operator.revoked)]
            })
            .collect();
        table(&["OPERATOR", "ROLE", ""], &rows)
    });
    Ok(())
}

/// The matrix, from the table that nodes ask.
fn show_roles(global: &Global) {
    let may = |verb: Verb, role: Role| roles::needs(verb).is_some_and(|needs| role >= needs);
    let row = |verb: &Verb| Row {
        verb: verb.as_str(),
        roles: Role::ALL.into_iter().map(|role| (role.as_str(), may(*verb, role))).collect(),
    };
    let rows: Vec<Row> = Verb::ALL.iter().map(row).collect();
    global.out().report(&rows, |_| {
        let cell = |verb: Verb, role: Role| if may(verb, role) { "yes" } else { "-" }.to_owned();
        let row = |verb: &Verb| {
            [verb.to_string()].into_iter().chain(Role::ALL.map(|role| cell(*verb, role))).collect()
        };
        table(&["REQUEST", "view", "operate", "deploy"], &Verb::ALL.iter().map(row).collect::<Vec<_>>())
    });
}

fn text(updated: &RootUpdated) -> String {
    format!(
        "root {} is in force; before it was {}\n  {}, {}\n  \
         linked nodes hear of it by themselves; others take it with `midplane mesh update FILE`",
        updated.to,
        updated.from,
        count(updated.operators, "operator"),
        count(updated.revoked, "revoked key")
    )
}

/// An id, or the id of a key in a file.
fn parse_key(text: &str) -> Outcome<NodeId> {
    let path = Path::new(text);
    if path.is_file() {
        return keys::load(path).map(|key| cose::node_id(&key));
    }
    text.parse().map_err(|fault: Fault| {
        fault.fix("an id, as `midplane key show FILE` prints it, or the file of a key")
    })
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::ALL
        .into_iter()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| "one of view, operate, deploy".to_owned())
}
