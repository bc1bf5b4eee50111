//! `init` and `join`: how a directory becomes a node, and a node a member.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::Global;
use super::peer::DAY_MS;
use crate::clock;
use crate::decisions::{cose, update};
use crate::store::directory::{self, Directory};
use crate::store::trust::{TrustFiles, TrustState};
use crate::store::{files, keys};
use crate::words::objects::{Membership, Operator, Role, Root};
use crate::words::{Code, Fault, MeshId, NodeId, Outcome, Trust, note};

/// Life of a root and of the first node's membership.
pub(super) const LIFE_MS: u64 = 365 * DAY_MS;
/// Largest file for `join`: a chain of roots and a membership.
const ADMISSION_MAX: usize = 2 << 20;

/// Arguments of `midplane init`.
#[derive(clap::Args)]
pub(super) struct Init {
    /// What the node calls itself; manifests can place plugins by it [default: the beginning of its id]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// A tag of the node; manifests can place plugins by it. May be given several times
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "bare")]
    tags: Vec<String>,
    /// Only the node and its key, no mesh: for a node that is to `join` one
    #[arg(long)]
    bare: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Made {
    node: NodeId,
    label: String,
    directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<MeshId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<NodeId>,
}

impl Init {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let directory = global.directory();
        let made = if self.bare {
            let (key, label) = new_node(&directory, self.label.as_deref())?;
            Made { node: cose::node_id(&key), label, directory: shown(&directory), mesh: None, owner: None }
        } else {
            self.with_mesh(&directory)?
        };
        global.out().report(&made, |made| match (made.mesh, made.owner) {
            (Some(mesh), Some(owner)) => format!(
                "node   {} ({})\nmesh   {mesh}\nowner  {owner}\nin     {dir}\n\n\
                 owner.key can sign away everything: keep a copy offline, and take it off this machine when you do not need it.\n\
                 next: midplane --data-dir {dir} run",
                made.node, made.label, dir = made.directory
            ),
            _ => format!(
                "node   {} ({})\nin     {dir}\n\nnext: `midplane peer admit {}` where the owner's key is, then here\n      midplane --data-dir {dir} join FILE",
                made.node, made.label, made.node, dir = made.directory
            ),
        });
        Ok(())
    }

    fn with_mesh(&self, directory: &Directory) -> Outcome<Made> {
        let (node_key, label) = new_node(directory, self.label.as_deref())?;
        let owner = keys::generate(&directory.owner_key())?;
        let operator = keys::generate(&directory.operator_key())?;
        let root = root(&label, &[&owner], &[cose::node_id(&operator)])?;
        let trusted = update::accept_root(None, &root, clock::now_ms())?;
        let node = cose::node_id(&node_key);
        let membership =
            super::peer::membership(trusted.mesh, node, Trust::Full, &self.tags, &["*".to_owned()], LIFE_MS);
        let admission =
            Admission { roots: vec![ByteBuf::from(root)], membership: sign(&membership, &owner)? };
        accept(directory, &node_key, &admission)?;
        Ok(Made {
            node,
            label,
            directory: shown(directory),
            mesh: Some(trusted.mesh),
            owner: Some(cose::node_id(&owner)),
        })
    }
}

/// A key and a label in a private directory. Refuses a directory that has a node.
pub(super) fn new_node(directory: &Directory, label: Option<&str>) -> Outcome<(SigningKey, String)> {
    directory::prepare(directory)?;
    if directory.is_initialised() {
        return Err(Fault::new(Code::Usage, format!("{} has a node already", directory.path().display()))
            .fix("--data-dir for another node; `midplane key show` shows this one"));
    }
    if let Some(label) = label {
        crate::words::objects::rules::check_label(label)?;
    }
    let key = keys::generate(&directory.node_key())?;
    let label = label.map_or_else(|| cose::node_id(&key).short(), str::to_owned);
    files::replace(&directory.label(), label.as_bytes(), 0o600)?;
    Ok((key, label))
}

/// A first root, signed by its owners.
pub(super) fn root(label: &str, owners: &[&SigningKey], operators: &[NodeId]) -> Outcome<Vec<u8>> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
    let now = clock::now_ms();
    let root = Root {
        version: 1,
        mesh: None,
        nonce,
        label: label.to_owned(),
        created: now,
        expires: now.saturating_add(LIFE_MS),
        owners: owners.iter().map(|key| cose::node_id(key)).collect(),
        threshold: u16::try_from(owners.len()).unwrap_or(u16::MAX),
        operators: operators.iter().map(|key| Operator { key: *key, role: Role::Deploy }).collect(),
        revoked: Vec::new(),
    };
    cose::sign(&root, owners)
}

/// What `peer admit` writes and `join` reads: public, and worth something only to the node that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Admission {
    /// Signed roots, oldest first.
    pub(super) roots: Vec<ByteBuf>,
    /// Signed membership.
    pub(super) membership: ByteBuf,
}

impl Admission {
    pub(super) fn encode(&self) -> Outcome<Vec<u8>> {
        note::write("admission", self, ADMISSION_MAX)
    }
}

/// Signs a membership.
pub(super) fn sign(membership: &Membership, owner: &SigningKey) -> Outcome<ByteBuf> {
    cose::sign(membership, &[owner]).map(ByteBuf::from)
}

/// Verifies an admission and makes it the node's own. Nothing is written when anything does not hold.
pub(super) fn accept(directory: &Directory, key: &SigningKey, admission: &Admission) -> Outcome<Membership> {
    let now = clock::now_ms();
    let roots: Vec<&[u8]> = admission.roots.iter().map(|root| root.as_slice()).collect();
    let trusted = update::accept_roots(None, &roots, now)?;
    let id = cose::node_id(key);
    let membership = update::accept_membership(&trusted, &admission.membership, &id, now)?.object;
    let trust_files = TrustFiles::new(directory.clone(), key);
    let state = trust_files.load()?;
    let known: Vec<&[u8]> = state.roots.iter().map(|root| root.as_slice()).collect();
    if !known.is_empty() {
        let own = update::restore_roots(&known)?;
        if own.mesh != trusted.mesh {
            let what =
                format!("this node belongs to mesh {}, the file is for mesh {}", own.mesh, trusted.mesh);
            return Err(Fault::new(Code::WrongMesh, what).fix("use another --data-dir for the other mesh"));
        }
        if own.root.version > trusted.root.version {
            let what =
                format!("the file has root version {}, this node {}", trusted.root.version, own.root.version);
            return Err(Fault::new(Code::StaleVersion, what));
        }
    }
    let state = TrustState {
        roots: admission.roots.clone(),
        membership: Some(admission.membership.clone()),
        time_floor: now,
        ..state
    };
    trust_files.save(&state)?;
    Ok(membership)
}

/// Arguments of `midplane join`.
#[derive(clap::Args)]
pub(super) struct Join {
    /// The file that `midplane peer admit` wrote for this node
    file: std::path::PathBuf,
}

impl Join {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let directory = global.directory();
        directory.require_initialised()?;
        let _lock = directory.lock("midplane join")?;
        let bytes = files::read_limited(&self.file, ADMISSION_MAX as u64)?
            .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is not there", self.file.display())))?;
        let admission: Admission = note::read("admission", &bytes, ADMISSION_MAX).map_err(|_| {
            Fault::new(
                Code::BadObject,
                format!("{} is not what `midplane peer admit` writes", self.file.display()),
            )
        })?;
        let key = keys::load(&directory.node_key())?;
        let membership = accept(&directory, &key, &admission)?;
        global.out().report(&membership, |membership| {
            format!(
                "node {} is a member of mesh {} with trust {}, until {}",
                membership.node.short(),
                membership.mesh,
                membership.trust,
                update::date(membership.expires)
            )
        });
        Ok(())
    }
}

fn shown(directory: &Directory) -> String {
    directory.path().display().to_string()
}
