//! Two linked nodes in this process, and what is put in force on them.
//!
//! In this process, because a control connection for each call would be most of what is measured; links, HTTP, disks and the
//! compile worker are those of any node.

use std::net::Ipv4Addr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use midplane::clock;
use midplane::decisions::cose;
use midplane::decisions::sizing::INSTANCES_MOST;
use midplane::log::Level;
use midplane::node::blobs::{has_for_a_while, keep_for_a_while};
use midplane::node::plans::Planned;
use midplane::node::{Config, Node, Running, generation, history, probation};
use midplane::policy::discovery::{Hint, Target};
use midplane::store::directory::Directory;
use midplane::store::keys;
use midplane::words::Outcome;
use midplane::words::control::Applied;
use midplane::words::event::{Happened, Receipt};
use midplane::words::objects::BlobRef;
use midplane::words::source::{parse, resolve};

use super::ledger::Ledger;
use super::versions::{self, Version};
use crate::Mesh;
use crate::guests::program;

/// How many nodes there are.
pub const NODES: usize = 2;
/// Their labels.
pub const LABELS: [&str; NODES] = ["n1", "n2"];
/// Time until each node reaches what the other serves.
const READY: Duration = Duration::from_secs(60);

/// The nodes.
pub struct Pair {
    // Before the directories, so that nobody uses them any more when they go.
    running: Vec<Running>,
    /// The nodes, for those who call.
    pub nodes: Vec<Node>,
    _mesh: Mesh,
    key: SigningKey,
    /// The version to sign next.
    version: u64,
    /// What is in force on each node, and what a rollback leads to.
    in_force: [(usize, usize); NODES],
}

impl Pair {
    /// Starts the nodes; nothing runs on them yet.
    pub async fn start() -> Outcome<Self> {
        let mesh = tokio::task::block_in_place(|| Mesh::of(LABELS));
        let places = mesh.nodes::<NODES>();
        let key = keys::load(&mesh.operator_key())?;
        let mut running: Vec<Running> = Vec::new();
        for place in places {
            let mut hints = Vec::new();
            if let Some(before) = running.last() {
                let address = before.node.endpoint.local_addr()?.to_string();
                let target = Target { address, peer: Some(before.node.identity.id.to_string()) };
                hints.push(Hint { target, source: "load".to_owned() });
            }
            let config = Config {
                directory: Directory::new(place.directory()),
                port: Some(0),
                bind: Ipv4Addr::LOCALHOST.into(),
                hints,
                http: vec![(Ipv4Addr::LOCALHOST, 0).into()],
                http_limits: midplane::net::http::Limits::default(),
                open_dirs: Vec::new(),
                http_tls: None,
                executable: program(),
                instances: INSTANCES_MOST,
            };
            running.push(Running::start(config).await?);
        }
        let nodes = running.iter().map(|running| running.node.clone()).collect();
        Ok(Self { running, nodes, _mesh: mesh, key, version: 1, in_force: [(0, 0); NODES] })
    }

    /// What is in force on a node.
    pub fn in_force(&self, number: usize) -> usize {
        self.in_force[number].0
    }

    /// The version of the manifest that each node runs.
    pub fn running(&self) -> [u64; NODES] {
        std::array::from_fn(|number| self.nodes[number].generation.load().version)
    }

    /// Puts a version in force on both nodes, one after the other, by one signed manifest. When the first one refuses it, the other
    /// is not asked.
    pub async fn apply(
        &mut self,
        versions: &[Version],
        wanted: usize,
        ledger: &Ledger,
    ) -> Outcome<Vec<Applied>> {
        let version = &versions[wanted];
        let signed = self.sign(version)?;
        for number in 0..NODES {
            let now = clock::monotonic();
            version.served(number).iter().for_each(|(place, digest)| ledger.begins(*place, *digest, now));
        }
        let mut all = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let applied = Box::pin(generation::apply(node, &signed, false)).await;
            match applied {
                Ok(applied) => {
                    // As `midplane apply` does, at once.
                    if version.reached {
                        probation::confirm(node, applied.to, None).await?;
                    }
                    all.push(applied);
                }
                Err(fault) => {
                    for number in number..NODES {
                        version.served(number).iter().for_each(|(place, _)| ledger.refused(*place));
                    }
                    return Err(fault);
                }
            }
            // What nobody confirms goes back by itself, and nobody here sees when: until then both may answer.
            if version.reached {
                let now = clock::monotonic();
                version.served(number).iter().for_each(|(place, _)| ledger.settled(*place, now));
            }
            self.in_force[number] = (wanted, self.in_force[number].0);
        }
        self.version += 1;
        Ok(all)
    }

    /// Fills what the nodes keep of what was said and what happened lately, by what comes of such a change on each, as it is in nodes that
    /// have run for a while. They keep so much whatever happens, and memory that grows until then is no memory that a change keeps.
    pub fn have_lived(&self, applied: &[Applied]) {
        /// More than they keep.
        const TIMES: u64 = 4_096;
        for (node, applied) in self.nodes.iter().zip(applied) {
            let Applied { from, to: version, ref signers, .. } = *applied;
            for _ in 0..TIMES {
                let (signers, over) = (signers.clone(), None);
                node.journal.record(Happened::GenerationApplied { from, to: version, signers, over });
                node.journal.record(Happened::Receipt(Receipt::new(applied, 0, 1)));
                node.journal.record(Happened::GenerationSettled { version });
                node.log
                    .host(Level::Info, &format!("generation {version} is published; before it ran {from}"));
            }
        }
    }

    /// Waits until what runs has shown that it is good. How many nodes say so.
    pub async fn settled(&self) -> usize {
        self.wait_for(|node| node.probation.get().is_none()).await
    }

    /// Waits until the nodes have gone back by themselves from what was applied last, to this version, which ran before. How many have.
    pub async fn returns(&mut self, versions: &[Version], before: usize, ledger: &Ledger) -> usize {
        let (bad, version) = (self.version - 1, &versions[before]);
        for number in 0..NODES {
            let now = clock::monotonic();
            version.served(number).iter().for_each(|(place, digest)| ledger.begins(*place, *digest, now));
        }
        let back = self.wait_for(|node| node.generation.load().version < bad).await;
        for number in 0..NODES {
            let now = clock::monotonic();
            version.served(number).iter().for_each(|(place, _)| ledger.settled(*place, now));
            self.in_force[number] = (before, before);
        }
        back
    }

    /// Waits until this holds on every node. On how many it does.
    async fn wait_for(&self, holds: impl Fn(&Node) -> bool) -> usize {
        let give_up = clock::monotonic() + READY;
        while !self.nodes.iter().all(&holds) && clock::monotonic() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.nodes.iter().filter(|node| holds(node)).count()
    }

    /// Signs a version, and gives both nodes its components.
    fn sign(&self, version: &Version) -> Outcome<Vec<u8>> {
        let source = parse(&version.text, "load.toml")?;
        let resolved = resolve(&source, "".as_ref(), &mut |path| {
            let found = version.components.get(path.to_str().unwrap_or_default());
            found.map(|bytes| bytes.to_vec()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        })?;
        for node in &self.nodes {
            for (digest, bytes) in &resolved.blobs {
                let blob = BlobRef { digest: *digest, length: bytes.len() as u64 };
                if !has_for_a_while(node, &blob) {
                    tokio::task::block_in_place(|| node.blobs.put_all(&blob, bytes))?;
                    keep_for_a_while(node, digest);
                }
            }
        }
        let manifest = resolved.manifest(self.nodes[0].identity.mesh, self.version, clock::now_ms());
        cose::sign(&manifest, &[&self.key])
    }

    /// Puts what ran before in force again.
    pub async fn rollback(
        &mut self,
        number: usize,
        versions: &[Version],
        ledger: &Ledger,
    ) -> Outcome<Applied> {
        let (from, to) = self.in_force[number];
        let now = clock::monotonic();
        let places = versions[to].served(number);
        places.iter().for_each(|(place, digest)| ledger.begins(*place, *digest, now));
        let applied = Box::pin(history::rollback(&self.nodes[number], None)).await?;
        let now = clock::monotonic();
        places.iter().for_each(|(place, _)| ledger.settled(*place, now));
        self.in_force[number] = (to, from);
        Ok(applied)
    }

    /// Waits until each node reaches what the other one serves.
    pub async fn ready(&self) {
        let give_up = clock::monotonic() + READY;
        for node in &self.nodes {
            for label in LABELS {
                let name = versions::name("unary", label).parse().expect("a name");
                let reaches = || {
                    let plan = node.plan(&name, None, None);
                    plan.is_ok_and(|plan| match &*plan {
                        Planned::Local => true,
                        Planned::Forward(ways) => !node.ways(&name, ways, None, &[]).is_empty(),
                        Planned::Unroutable(_) => false,
                    })
                };
                while !reaches() {
                    assert!(clock::monotonic() < give_up, "{name} is not reached from everywhere");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// Stops the nodes.
    pub async fn stop(self) {
        drop(self.nodes);
        for running in self.running {
            running.stop().await;
        }
    }
}
