//! `midplane cluster`: a mesh of several nodes on this machine, for trying things and for tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde_bytes::ByteBuf;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Target, ask, block_on};
use super::init::{self, Admission};
use super::peer::{DAY_MS, membership};
use super::{Global, apply};
use crate::clock;
use crate::decisions::{cose, update};
use crate::store::directory::{self, Directory};
use crate::store::keys;
use crate::words::control::{PeerReport, Request, RouteReport, Status};
use crate::words::count::count;
use crate::words::source::Resolved;
use crate::words::{Code, Fault, NodeId, Outcome, Trust};

/// The operator's key, beside the nodes like the owner's: none of them needs it.
const OPERATOR_KEY: &str = "operator.key";
/// Nodes of one cluster.
const NODES_MOST: u64 = 32;
/// Time until every node answers and every name is reachable from every node.
const READY: Duration = Duration::from_secs(120);
/// How often a condition is looked at while waiting.
const LOOK: Duration = Duration::from_millis(50);
/// Time that a node has to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// Who dials whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Topology {
    /// Each node dials the one before it.
    Line,
    /// As a line, and the first dials the last.
    Ring,
    /// Each node dials all before it.
    Full,
}

/// Arguments of `midplane cluster`.
#[derive(clap::Args)]
pub(super) struct Cluster {
    /// How many nodes; they are called n1, n2, …
    #[arg(value_parser = clap::value_parser!(u64).range(1..=NODES_MOST))]
    nodes: u64,
    /// The manifest that all of them apply
    manifest: PathBuf,
    /// Keep the nodes in this directory, and find them there again [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Who dials whom
    #[arg(long, value_enum, default_value = "line")]
    topology: Topology,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Ready {
    directory: String,
    operator_key: String,
    nodes: Vec<Member>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Member {
    label: String,
    node: NodeId,
    data_dir: String,
    address: String,
    pid: u32,
}

impl Cluster {
    pub(super) fn run(&self, global: &Global) -> Outcome<u8> {
        let resolved = apply::read(&self.manifest)?;
        let temporary;
        let base = match &self.dir {
            Some(dir) => dir.clone(),
            None => {
                temporary = tempfile::Builder::new()
                    .prefix("midplane-")
                    .tempdir()
                    .map_err(|error| Fault::io("cannot make a temporary directory", &error))?;
                temporary.path().to_owned()
            }
        };
        let directory = Directory::new(&base);
        directory::prepare(&directory)?;
        // Before anything is made or signed there: the nodes of another cluster would take it.
        let lock = directory.lock("midplane cluster");
        let _lock = lock.map_err(|fault| fault.fix("end that cluster, or name another --dir"))?;
        let nodes: Vec<Directory> =
            (1..=self.nodes).map(|number| Directory::new(base.join(format!("n{number}")))).collect();
        let operator = found(&base, &nodes)?;
        let operator_key = base.join(OPERATOR_KEY);
        let mut children = Children::default();
        block_on(None, async {
            let fail = |error: std::io::Error| Fault::io("cannot listen for signals", &error);
            let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
            let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
            let ready = async {
                let members = self.start(&nodes, &mut children, global.verbose).await?;
                give(&nodes, &resolved, &operator).await?;
                wait_for_routes(&nodes, &resolved, self.topology).await?;
                Ok(members)
            };
            let members = tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(130),
                _ = terminate.recv() => return Ok(0),
                ready = tokio::time::timeout(global.timeout.unwrap_or(READY), ready) => ready.unwrap_or_else(|_| {
                    Err(Fault::new(Code::Deadline, "the cluster did not become ready").fix("`midplane cluster -v` shows what the nodes say"))
                })?,
            };
            global.out().announce(
                &Ready {
                    directory: base.display().to_string(),
                    operator_key: operator_key.display().to_string(),
                    nodes: members,
                },
                text,
            );
            tokio::select! {
                _ = interrupt.recv() => Ok(0),
                _ = terminate.recv() => Ok(0),
                dead = children.first_dead() => Err(Fault::new(Code::Internal, format!("{dead} ended by itself"))),
            }
        })
    }

    async fn start(
        &self,
        nodes: &[Directory],
        children: &mut Children,
        verbose: bool,
    ) -> Outcome<Vec<Member>> {
        let mut members: Vec<Member> = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            let first = members.first().map(dial);
            let last = members.last().map(dial);
            let peers: Vec<String> = match self.topology {
                Topology::Line => last.into_iter().collect(),
                Topology::Ring if number + 1 == nodes.len() && number > 1 => {
                    last.into_iter().chain(first).collect()
                }
                Topology::Ring => last.into_iter().collect(),
                Topology::Full => members.iter().map(dial).collect(),
            };
            let pid = children.spawn(node, &peers, verbose)?;
            let status = wait(|| ask::<Status>(node, &Request::Status)).await?;
            members.push(Member {
                label: status.label,
                node: status.node,
                data_dir: node.path().display().to_string(),
                address: status.address,
                pid,
            });
        }
        Ok(members)
    }
}

fn dial(member: &Member) -> String {
    format!("{}@{}", member.node, member.address)
}

/// Makes the nodes that are not there yet: one root, an operator's key, and a membership for each. The owner's key is
/// beside the nodes, not in any of them.
fn found(base: &Path, nodes: &[Directory]) -> Outcome<SigningKey> {
    let owner = keys::load_or_generate(&base.join("owner.key"))?;
    let operator = keys::load_or_generate(&base.join(OPERATOR_KEY))?;
    let root_path = base.join("root");
    let root = match crate::store::files::read_limited(&root_path, 64 << 10)? {
        Some(root) => root,
        None => {
            let root = init::root("cluster", &[&owner], &[cose::node_id(&operator)])?;
            crate::store::files::replace(&root_path, &root, 0o644)?;
            root
        }
    };
    let trusted = update::accept_root(None, &root, clock::now_ms())?;
    for (number, directory) in nodes.iter().enumerate() {
        if directory.is_initialised() {
            continue;
        }
        let (key, _) = init::new_node(directory, Some(&format!("n{}", number + 1)))?;
        let node = cose::node_id(&key);
        let member = membership(trusted.mesh, node, Trust::Trusted, &[], &["*".to_owned()], 365 * DAY_MS);
        let admission =
            Admission { roots: vec![ByteBuf::from(root.clone())], membership: init::sign(&member, &owner)? };
        init::accept(directory, &key, &admission)?;
    }
    Ok(operator)
}

/// Gives each node the manifest, signed once: two of one version would be a fork.
async fn give(nodes: &[Directory], resolved: &Resolved, operator: &SigningKey) -> Outcome<()> {
    let mut floor = 0;
    for node in nodes {
        floor = floor.max(ask::<Status>(node, &Request::Status).await?.floor);
    }
    let mut signed = None;
    for node in nodes {
        let node = &Target::from(node);
        apply::upload(node, &resolved.blobs).await?;
        let signed = match &mut signed {
            Some(signed) => signed,
            none => none.insert(apply::sign(node, resolved, operator, Some(floor.saturating_add(1))).await?),
        };
        apply::send(node, signed, true).await?;
    }
    Ok(())
}

/// Waits until the links of the topology are up and every name is reachable from every node.
async fn wait_for_routes(nodes: &[Directory], resolved: &Resolved, topology: Topology) -> Outcome<()> {
    let count = nodes.len();
    for (number, node) in nodes.iter().enumerate() {
        let edge = number == 0 || number + 1 == count;
        let links = match topology {
            _ if count < 3 => count - 1,
            Topology::Full => count - 1,
            Topology::Line if edge => 1,
            Topology::Line | Topology::Ring => 2,
        };
        wait(|| async {
            let peers: Vec<PeerReport> = ask(node, &Request::Peers).await?;
            let up = peers.iter().filter(|peer| peer.state == "linked").count();
            if up >= links { Ok(()) } else { Err(not_yet()) }
        })
        .await?;
        for name in resolved.plugins.iter().flat_map(|plugin| &plugin.names) {
            // A name that no node of this cluster is to serve is nobody's fault.
            let placed = (1..=count).any(|number| {
                resolved.plugins.iter().any(|plugin| {
                    plugin.names.contains(name) && plugin.on.matches(&format!("n{number}"), &[])
                })
            });
            if !placed {
                continue;
            }
            wait(|| async {
                let request = Request::Routes { name: Some(name.clone()) };
                let routes: Vec<RouteReport> = ask(node, &request).await?;
                let reachable = |route: &RouteReport| route.local || route.hops.iter().any(|hop| hop.claimed);
                if routes.iter().any(reachable) { Ok(()) } else { Err(not_yet()) }
            })
            .await?;
        }
    }
    Ok(())
}

fn not_yet() -> Fault {
    Fault::new(Code::Busy, "not yet")
}

/// Asks until the answer is good; the caller's deadline ends it.
async fn wait<T, F: Future<Output = Outcome<T>>>(mut look: impl FnMut() -> F) -> Outcome<T> {
    loop {
        match look().await {
            Ok(good) => return Ok(good),
            Err(fault) if matches!(fault.code, Code::Busy | Code::NotRunning) => {
                tokio::time::sleep(LOOK).await
            }
            Err(fault) => return Err(fault),
        }
    }
}

fn text(ready: &Ready) -> String {
    let mut lines = vec![format!("{} ready in {}", count(ready.nodes.len(), "node"), ready.directory)];
    for node in &ready.nodes {
        lines.push(format!("  {}  {}  {}", node.label, node.address, node.node));
    }
    if let Some(first) = ready.nodes.first() {
        lines.push(format!("talk to one with: midplane --data-dir {} status", first.data_dir));
    }
    if let (Some(first), Some(last)) = (ready.nodes.first(), ready.nodes.last()) {
        lines.push(format!(
            "or to any over any: midplane --data-dir {} --on {} --key {} status",
            first.data_dir, last.label, ready.operator_key
        ));
    }
    lines.push("ctrl-c ends them".to_owned());
    lines.join("\n")
}

/// The nodes' processes; dropping ends them.
#[derive(Default)]
struct Children(Vec<(String, Child)>);

impl Children {
    fn spawn(&mut self, node: &Directory, peers: &[String], verbose: bool) -> Outcome<u32> {
        let executable =
            std::env::current_exe().map_err(|error| Fault::io("cannot find this program", &error))?;
        let mut command = Command::new(executable);
        command.arg("--data-dir").arg(node.path()).args(["run", "--port", "0", "--bind", "127.0.0.1"]);
        command.args(["--with", &std::process::id().to_string()]);
        for peer in peers {
            command.args(["--peer", peer]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if !verbose {
            command.stderr(Stdio::null());
        }
        // A ctrl-c goes to the cluster alone, which then ends its nodes in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| Fault::io("cannot start a node", &error))?;
        let pid = child.id();
        let label = node.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.0.push((label, child));
        Ok(pid)
    }

    async fn first_dead(&mut self) -> String {
        loop {
            for (label, child) in &mut self.0 {
                if let Ok(Some(status)) = child.try_wait() {
                    return format!("node {label} ({status})");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid
                && matches!(child.try_wait(), Ok(None))
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let patience = clock::monotonic() + STOP;
        for (_, child) in &mut self.0 {
            while matches!(child.try_wait(), Ok(None)) {
                if clock::monotonic() >= patience {
                    let _ = child.kill();
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}
