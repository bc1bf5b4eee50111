//! Nodes of one mesh, each with a directory and an address of its own.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use crate::manifest::Manifest;
use crate::node::Node;

/// Meshes of this process so far.
static MESHES: AtomicU8 = AtomicU8::new(0);
/// Port of the first node. Below the range from which the system gives ports, so that nobody else is given it.
const PORT: u16 = 20_000;

/// A mesh. Dropping it ends its nodes and removes their directories.
pub struct Mesh {
    // Before the directory, so that nobody uses it any more when it goes.
    nodes: Vec<Node>,
    directory: TempDir,
    address: Ipv4Addr,
}

impl Mesh {
    /// Makes nodes of these labels; the first owns the mesh. Nothing runs yet.
    pub fn of<const N: usize>(labels: [&str; N]) -> Self {
        let mut mesh = Self::empty();
        for label in labels {
            match mesh.nodes.first() {
                None => mesh.found(label),
                Some(_) => mesh.admit(label, &[]),
            }
        }
        mesh
    }

    fn empty() -> Self {
        let directory =
            tempfile::Builder::new().prefix("midplane-").tempdir().expect("a temporary directory");
        Self { nodes: Vec::new(), directory, address: own_address() }
    }

    fn place(&self, label: &str) -> Node {
        let port = PORT + u16::try_from(self.nodes.len()).expect("a mesh is small");
        Node::new(self.directory.path(), label, (self.address, port).into())
    }

    fn found(&mut self, label: &str) {
        let node = self.place(label);
        node.cli(["init", "--label", label]).ok();
        self.nodes.push(node);
    }

    /// Adds a node that the first one admits; `arguments` are of `peer admit`.
    pub fn admit(&mut self, label: &str, arguments: &[&str]) {
        let node = self.bare(label);
        let file = self.path(&format!("{label}.admission"));
        let (id, out) = (node.id(), file.to_str().expect("a plain path"));
        let admit = ["peer", "admit", &id, "--out", out];
        self.nodes[0].cli(admit.iter().chain(arguments)).ok();
        node.cli(["join", out]).ok();
        self.nodes.push(node);
    }

    /// Makes a node that belongs to no mesh. It is not one of this mesh's nodes.
    pub fn bare(&self, label: &str) -> Node {
        let node = self.place(label);
        node.cli(["init", "--bare", "--label", label]).ok();
        node
    }

    /// Makes a node that founds a mesh of its own at this mesh's address. It is not one of this mesh's nodes.
    pub fn stranger(&self, label: &str) -> Node {
        let node = self.place(label);
        node.cli(["init", "--label", label]).ok();
        node
    }

    /// Its nodes, in the order in which they were made.
    pub fn nodes<const N: usize>(&self) -> [&Node; N] {
        let nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.try_into().unwrap_or_else(|_| panic!("the mesh has {} nodes", self.nodes.len()))
    }

    /// A file of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a manifest with the mesh's operator key and puts it in force on each of these nodes, which run.
    #[track_caller]
    pub fn apply(&self, manifest: &Manifest, nodes: &[&Node]) {
        let file = manifest.write(self.path("manifest.toml"));
        let signed = self.path("manifest.signed");
        let version = self.next_version(nodes);
        // Signed once, for two of one version would be a fork; each node is given the components, for it may have no peers yet.
        for (at, node) in nodes.iter().enumerate() {
            let mut command = node.command(["apply", "--no-wait", "--allow-grants", "--key"]);
            command.arg(self.operator_key());
            if at == 0 {
                command.arg(&file).args(["--version", &version, "--save"]).arg(&signed);
            } else {
                command.arg(&signed).arg("--components").arg(&file);
            }
            crate::command::run(&mut command, crate::PATIENCE).ok();
        }
    }

    /// The same with a file on one node, which may refuse it. Whatever it grants is meant; other nodes are not waited for.
    #[track_caller]
    pub fn apply_file(&self, file: &std::path::Path, node: &Node) -> crate::Outcome {
        let apply = ["apply", "--no-wait", "--allow-grants", "--key"].map(std::ffi::OsStr::new);
        let (key, version) = (self.operator_key(), self.next_version(&[node]));
        let source = file.extension().is_some_and(|extension| extension == "toml");
        let version = source.then(|| ["--version".as_ref(), version.as_ref()]);
        let rest = [key.as_os_str(), file.as_os_str()].into_iter().chain(version.into_iter().flatten());
        node.cli(apply.into_iter().chain(rest))
    }

    /// A version above all that these nodes, and the nodes of this mesh that run, have accepted: what is on its way between them is older.
    fn next_version(&self, nodes: &[&Node]) -> String {
        let floor = |node: &Node| {
            let status = node.cli(["status", "-o", "json"]);
            (status.code == 0).then(|| status.json()["floor"].as_u64().expect("a version"))
        };
        let all = self.nodes.iter().chain(nodes.iter().copied());
        (all.filter_map(floor).max().unwrap_or_default() + 1).to_string()
    }

    /// The key that may sign manifests.
    pub fn operator_key(&self) -> PathBuf {
        self.nodes[0].directory().join("operator.key")
    }
}

/// A loopback address that no other mesh has, in this process or another: ports cannot clash.
fn own_address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = MESHES.fetch_add(1, Ordering::Relaxed);
    assert!(number < u8::MAX, "more meshes than addresses");
    Ipv4Addr::new(127, high, low, number + 1)
}
