//! The `grants` of a plugin's entry.

use toml::de::DeValue;

use super::fields::{Fields, Reader, choice, list, size, text, truth};
use crate::words::objects::{BlobAccess, BlobGrant, DirGrant, Grants, NodeAccess};

const KEYS: &[&str] = &["node", "resolve", "invoke", "peers", "http", "keyvalue", "dirs", "blobs"];

/// Reads the table; nothing is granted where there is none.
pub(super) fn grants(reader: &mut Reader, fields: &Fields) -> Grants {
    let Some(fields) = fields.table(reader, "grants", KEYS) else {
        return Grants::default();
    };
    let texts = |value: &DeValue| list(value, text);
    Grants {
        node: fields.read(reader, "node", access),
        resolve: fields.read(reader, "resolve", texts).unwrap_or_default(),
        invoke: fields.read(reader, "invoke", texts).unwrap_or_default(),
        http: fields.read(reader, "http", texts).unwrap_or_default(),
        peers: fields.read(reader, "peers", access),
        keyvalue: fields.read(reader, "keyvalue", texts).unwrap_or_default(),
        dirs: dirs(reader, &fields),
        blobs: blobs(reader, &fields),
    }
}

fn blobs(reader: &mut Reader, fields: &Fields) -> Option<BlobGrant> {
    let fields = fields.table(reader, "blobs", &["read", "write"])?;
    let access = |value: &DeValue| choice(value, &[("node", BlobAccess::Node), ("mesh", BlobAccess::Mesh)]);
    Some(BlobGrant { read: fields.read(reader, "read", access), write: fields.read(reader, "write", size) })
}

fn dirs(reader: &mut Reader, fields: &Fields) -> Vec<DirGrant> {
    let mut dirs = Vec::new();
    for (table, span) in fields.tables(reader, "dirs") {
        let fields = Fields::at(reader, "grants.dirs.", table, span, &["path", "as", "write"]);
        let (path, seen) = (fields.require(reader, "path", text), fields.require(reader, "as", text));
        let write = fields.read(reader, "write", truth).unwrap_or(false);
        if let (Some(path), Some(seen)) = (path, seen) {
            dirs.push(DirGrant { path, seen, write });
        }
    }
    dirs
}

fn access(value: &DeValue) -> Result<NodeAccess, String> {
    choice(value, &[("read", NodeAccess::Read)])
}
