//! Who the node is, as its directory says.

use ed25519_dalek::SigningKey;

use crate::decisions::update::{self, Trusted};
use crate::store::directory::Directory;
use crate::store::state::Store;
use crate::store::trust::TrustState;
use crate::words::objects::Membership;
use crate::words::{Code, Fault, MeshId, NodeId, Outcome};

/// What is true for the life of the process.
pub struct Identity {
    /// The node.
    pub id: NodeId,
    /// Its key.
    pub key: SigningKey,
    /// Its label.
    pub label: String,
    /// Its membership.
    pub membership: Membership,
    /// The same, signed.
    pub membership_signed: Vec<u8>,
    /// The mesh.
    pub mesh: MeshId,
    /// Counts the starts of this node.
    pub boot: u64,
    /// Tells two machines with one key apart.
    pub random: u64,
}

/// Reads who it is, and counts one more start.
pub(super) fn read(
    directory: &Directory,
    key: SigningKey,
    trust: &TrustState,
    store: &Store,
) -> Outcome<(Identity, Trusted)> {
    let id = crate::decisions::cose::node_id(&key);
    let no_mesh = || {
        Fault::new(Code::NotFound, format!("node {} belongs to no mesh", id.short()))
            .fix("`midplane join FILE` with the file that `midplane peer admit NODE-ID` writes on the owner's machine")
    };
    let roots: Vec<&[u8]> = trust.roots.iter().map(|root| root.as_slice()).collect();
    if roots.is_empty() {
        return Err(no_mesh());
    }
    let trusted = update::restore_roots(&roots)?;
    let signed = trust.membership.clone().ok_or_else(no_mesh)?.into_vec();
    let membership = update::restore_membership(&trusted, &signed, &id)?;
    let label = crate::store::files::read_limited(&directory.label(), 256)?
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map_or_else(|| id.short(), |label| label.trim().to_owned());
    let boot = store.number("boot")?.unwrap_or(0) + 1;
    store.set_number("boot", boot)?;
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| Fault::new(Code::Io, format!("no randomness: {error}")))?;
    let random = u64::from_le_bytes(random);
    let mesh = trusted.mesh;
    let identity = Identity { id, key, label, membership, membership_signed: signed, mesh, boot, random };
    Ok((identity, trusted))
}
