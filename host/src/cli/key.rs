//! `midplane key`: make and show keys.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use serde::Serialize;

use super::Global;
use super::output::table;
use crate::decisions::cose;
use crate::store::keys;
use crate::words::{Code, Fault, NodeId, Outcome};

/// Arguments of `midplane key`.
#[derive(clap::Args)]
pub(super) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key in a new file of mode 0600
    New {
        /// The file
        file: PathBuf,
    },
    /// Show the identity of a key file, or of the node's keys
    Show {
        /// The file [default: those of the data directory]
        file: Option<PathBuf>,
    },
    /// Print the public half as PEM
    Export {
        /// The file [default: the node's key]
        file: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Shown {
    role: String,
    id: NodeId,
    file: String,
}

impl Key {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let directory = global.directory();
        match &self.command {
            Command::New { file } => {
                keys::generate(file)?;
                show(global, &[("key", file.as_path())])
            }
            Command::Show { file: Some(file) } => show(global, &[("key", file.as_path())]),
            Command::Show { file: None } => {
                directory.require_initialised()?;
                let own = [
                    ("node", directory.node_key()),
                    ("owner", directory.owner_key()),
                    ("operator", directory.operator_key()),
                ];
                let there: Vec<(&str, &Path)> = own
                    .iter()
                    .filter(|(_, path)| path.exists())
                    .map(|(role, path)| (*role, path.as_path()))
                    .collect();
                show(global, &there)
            }
            Command::Export { file } => {
                let key = keys::load(&file.clone().unwrap_or_else(|| directory.node_key()))?;
                let pem = key
                    .verifying_key()
                    .to_public_key_pem(LineEnding::LF)
                    .map_err(|error| Fault::new(Code::Internal, format!("cannot encode the key: {error}")))?;
                global.out().report(&pem, Clone::clone);
                Ok(())
            }
        }
    }
}

fn show(global: &Global, files: &[(&str, &Path)]) -> Outcome<()> {
    let mut shown = Vec::new();
    for (role, file) in files {
        let id = cose::node_id(&keys::load(file)?);
        shown.push(Shown { role: (*role).to_owned(), id, file: file.display().to_string() });
    }
    global.out().report(&shown, |shown| {
        let rows: Vec<Vec<String>> =
            shown.iter().map(|key| vec![key.role.clone(), key.id.to_string(), key.file.clone()]).collect();
        table(&["KEY", "ID", "FILE"], &rows)
    });
    Ok(())
}
