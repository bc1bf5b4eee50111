//! `midplane peer`: who may be in the mesh.

use std::path::PathBuf;

use clap::Subcommand;

use super::Global;
use super::init::{Admission, sign};
use crate::clock;
use crate::decisions::cose;
use crate::decisions::update::{self, date};
use crate::store::trust::TrustFiles;
use crate::store::{files, keys};
use crate::words::objects::Membership;
use crate::words::{Code, Fault, MeshId, NodeId, Outcome, Trust};

/// A day in milliseconds.
pub(super) const DAY_MS: u64 = 24 * 3_600_000;

/// Arguments of `midplane peer`.
#[derive(clap::Args)]
pub(super) struct Peer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sign a membership for a node; the file it writes goes to that node's `midplane join`
    Admit(Admit),
}

#[derive(clap::Args)]
struct Admit {
    /// Identity of the node: `midplane key show` prints it there
    node: NodeId,
    /// Where to write the file; it is not secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The most that the node is trusted
    #[arg(long, default_value = "trusted", value_parser = parse_trust, value_name = "LEVEL")]
    trust: Trust,
    /// A tag of the node; manifests can place plugins by it. May be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What the node may serve: `x@domain`, `*@domain` or `*`. May be given several times
    #[arg(long = "name", value_name = "PATTERN", default_value = "*")]
    names: Vec<String>,
    /// Days until it has to be renewed
    #[arg(long, default_value = "365", value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// The owner's key [default: owner.key of the data directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Peer {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        match &self.command {
            Command::Admit(admit) => admit.run(global),
        }
    }
}

impl Admit {
    fn run(&self, global: &Global) -> Outcome<()> {
        let directory = global.directory();
        directory.require_initialised()?;
        let owner = keys::load(&self.key.clone().unwrap_or_else(|| directory.owner_key()))?;
        let state = TrustFiles::new(directory.clone(), &keys::load(&directory.node_key())?).load()?;
        let roots: Vec<&[u8]> = state.roots.iter().map(|root| root.as_slice()).collect();
        let trusted = update::restore_roots(&roots)?;
        let id = cose::node_id(&owner);
        if !trusted.root.owners.contains(&id) {
            let what = format!("key {id} does not own this mesh");
            return Err(Fault::new(Code::UnknownKey, what).fix("--key FILE with an owner's key"));
        }
        if !cose::is_strong(&self.node) {
            return Err(Fault::new(Code::Usage, format!("{} is no usable key", self.node)));
        }
        let membership =
            membership(trusted.mesh, self.node, self.trust, &self.tags, &self.names, self.days * DAY_MS);
        let signed = sign(&membership, &owner)?;
        // What the other node would refuse is refused here.
        update::accept_membership(&trusted, &signed, &self.node, clock::now_ms())?;
        let admission = Admission { roots: state.roots, membership: signed };
        files::hand_out(&self.out, &admission.encode()?)?;
        global.out().report(&membership, |membership| {
            format!(
                "{} may be a member with trust {} until {}\nnext, on that node: midplane join {}",
                membership.node.short(),
                membership.trust,
                date(membership.expires),
                self.out.display()
            )
        });
        Ok(())
    }
}

/// A membership that begins now.
pub(super) fn membership(
    mesh: MeshId,
    node: NodeId,
    trust: Trust,
    tags: &[String],
    names: &[String],
    life_ms: u64,
) -> Membership {
    let now = clock::now_ms();
    let (tags, names) = (tags.to_vec(), names.to_vec());
    Membership {
        mesh,
        node,
        trust,
        tags,
        names,
        issued: now,
        expires: now.saturating_add(life_ms),
        serial: now,
    }
}

fn parse_trust(text: &str) -> Result<Trust, String> {
    Trust::ALL
        .into_iter()
        .find(|trust| trust.as_str() == text && *trust >= Trust::Basic)
        .ok_or_else(|| "one of basic, trusted, full".to_owned())
}
