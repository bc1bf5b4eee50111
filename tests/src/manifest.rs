//! Manifests as a test composes them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::command::component;

/// The text of a manifest.
#[derive(Clone)]
pub struct Manifest(String);

impl Manifest {
    /// Nothing.
    pub fn empty() -> Self {
        Self(String::new())
    }

    /// The three policies of a mesh, on every node.
    pub fn policies() -> Self {
        Self::empty()
            .plugin("discovery", "discovery", &component("discovery/static"), "")
            .plugin("admission", "admission", &component("admission/basic"), "")
            .plugin("routing", "routing", &component("routing/path-vector"), "protocol = \"path-vector/1\"")
    }

    /// Says how long a generation is watched.
    #[must_use]
    pub fn probation(self, time: &str) -> Self {
        Self(format!("probation = \"{time}\"\n{}", self.0))
    }

    /// Adds a skill of the plugins, on one node.
    #[must_use]
    pub fn skill(self, skill: &str, name: &str, label: &str) -> Self {
        let slot = format!("skill/{}", skill.rsplit('/').next().unwrap_or(skill));
        let more = format!("names = [\"{name}\"]\non = {{ labels = [\"{label}\"] }}");
        self.plugin(&slot, "skill", &component(skill), &more)
    }

    /// Adds the last writer who wins, for these datasets; `more` is the rest of its table.
    #[must_use]
    pub fn sync(self, datasets: &[&str], more: &str) -> Self {
        let more = format!("protocol = \"lww/1\"\ndatasets = {datasets:?}\n{more}");
        self.plugin("sync", "sync", &component("sync/lww"), &more)
    }

    /// Adds an entry; `more` is the rest of its table.
    #[must_use]
    pub fn plugin(mut self, slot: &str, kind: &str, component: &Path, more: &str) -> Self {
        let component = component.display();
        write!(
            self.0,
            "[[plugin]]\nslot = \"{slot}\"\nkind = \"{kind}\"\ncomponent = \"{component}\"\n{more}\n\n"
        )
        .expect("a string takes everything");
        self
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Writes it to a file.
    pub fn write(&self, path: PathBuf) -> PathBuf {
        std::fs::write(&path, &self.0).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}
