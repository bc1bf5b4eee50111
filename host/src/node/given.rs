//! What a plugin's interfaces are filled with on this node. A manifest goes to every machine, so it cannot open a directory by
//! itself: the node has to let it.
//!
//! Directories are held open, those of the operator from the start, those of a plugin from its preparation on, and each of these is
//! reached from one of those. A path would be looked up again for each instance, and a plugin that may write above it could have put a link
//! there in the meantime.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::NodeInner;
use crate::decisions::grants::OpenDir;
use crate::interface::config;
use crate::interface::host::blobs::Shelf;
use crate::wasm::guest::{Given, GivenDir};
use crate::words::objects::{DirGrant, Plugin};
use crate::words::{Code, Fault, Outcome};

/// A directory that the operator lets plugins see, held open.
#[derive(Clone, Debug)]
pub struct Opened {
    rule: OpenDir,
    dir: Arc<Dir>,
}

/// Everything for one plugin; refuses directories that are not there or that the node does not open.
pub fn given(node: &NodeInner, entry: &Plugin) -> Outcome<Given> {
    let open = |grant: &DirGrant| directory(&node.open_dirs, &entry.slot, grant);
    Ok(Given {
        config: config::variables(&entry.config),
        dirs: entry.grants.dirs.iter().map(open).collect::<Outcome<_>>()?,
        tls: node.http_tls.clone(),
        store: Some(node.store.clone()),
        blobs: Some(Shelf::new(node.blobs.clone(), node.holdings.clone())),
    })
}

/// Directories of the command line, with their links resolved.
pub fn open_dirs(read: &[PathBuf], write: &[PathBuf]) -> Outcome<Vec<Opened>> {
    let opened = |path: &PathBuf, write| {
        let path = resolved(path)?;
        let dir =
            Dir::open_ambient_dir(&path, ambient_authority()).map_err(|error| unopened(&path, &error))?;
        Ok(Opened { rule: OpenDir { path, write }, dir: Arc::new(dir) })
    };
    let read = read.iter().map(|path| opened(path, false));
    read.chain(write.iter().map(|path| opened(path, true))).collect()
}

fn directory(open: &[Opened], slot: &str, grant: &DirGrant) -> Outcome<GivenDir> {
    let path = resolved(Path::new(&grant.path)).map_err(|fault| at(slot, fault))?;
    let Some(opened) = open.iter().find(|opened| opened.rule.opens(&path, grant.write)) else {
        let (verb, flag) =
            if grant.write { ("write to", "--allow-write-dir") } else { ("read", "--allow-dir") };
        let fault =
            Fault::new(Code::NotAllowed, format!("this node lets no plugin {verb} {}", path.display()));
        return Err(at(slot, fault.fix(format!("midplane run {flag} {}", path.display()))));
    };
    // From the operator's directory downwards: whatever becomes of the path meanwhile, this does not lead out of it.
    let dir = match path.strip_prefix(&opened.rule.path) {
        Ok(below) if below != Path::new("") => opened.dir.open_dir(below),
        _ => opened.dir.try_clone(),
    };
    let dir = dir.map_err(|error| at(slot, unopened(&path, &error)))?;
    Ok(GivenDir { dir: Arc::new(dir), grant: grant.clone() })
}

fn unopened(path: &Path, error: &std::io::Error) -> Fault {
    Fault::io(format!("directory {}", path.display()), error)
}

fn resolved(path: &Path) -> Outcome<PathBuf> {
    let resolved = path.canonicalize().map_err(|error| unopened(path, &error))?;
    if !resolved.is_dir() {
        return Err(Fault::new(Code::NotFound, format!("{} is no directory", path.display())));
    }
    Ok(resolved)
}

fn at(slot: &str, fault: Fault) -> Fault {
    Fault { what: format!("{slot}: {}", fault.what), ..fault }
}
