//! Three nodes in a line, in this process: n3 – n2 – n1, where n1 serves.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use midplane::clock;
use midplane::decisions::rights::Rights;
use midplane::decisions::sizing::INSTANCES_MOST;
use midplane::node::call::Invocation;
use midplane::node::reply::Next;
use midplane::node::{Config, Node, NodeInner, Running};
use midplane::policy::discovery::{Hint, Target};
use midplane::store::directory::Directory;
use midplane::words::schema::Form;

use super::Failure;

/// Nodes of the line.
const NODES: usize = 3;
/// Time until a name is reachable over two links.
const READY: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Longest time of one call, so that no call of the whole run meets it.
const CALL_MS: u64 = 600_000;
/// `{x: 3, y: 4}` in CBOR.
const ARGUMENTS: &[u8] = &[0xa2, 0x61, b'x', 3, 0x61, b'y', 4];
/// 7 in CBOR.
pub const ANSWER: &[u8] = &[7];

/// Directories of nodes that have run once, so that everything is compiled and applied.
pub struct Prepared {
    directory: tempfile::TempDir,
}

/// Makes the nodes with the command line, as anybody would.
pub fn prepare() -> Result<Prepared, Failure> {
    let private = std::fs::Permissions::from_mode(0o700);
    let directory = tempfile::Builder::new().prefix("midplane-bench-").permissions(private).tempdir()?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ratios/mesh.toml");
    let child = Command::new(program()?)
        .args(["cluster", &NODES.to_string()])
        .arg(manifest)
        .arg("--dir")
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut cluster = Cluster(child);
    let mut stdout = BufReader::new(cluster.0.stdout.take().ok_or("no standard output")?);
    // The first line comes when every name is reachable from every node, the end of the file when that fails.
    if stdout.read_line(&mut String::new())? == 0 {
        return Err("the nodes could not be set up".into());
    }
    drop(cluster);
    Ok(Prepared { directory })
}

/// The program under test lies beside the benches.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let beside = own.parent().and_then(Path::parent).map(|profile| profile.join("midplane"));
    let program = beside.filter(|program| program.exists());
    program.ok_or_else(|| "build the program first: cargo build --release -p midplane".into())
}

/// Ends with the value.
struct Cluster(Child);

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The running nodes.
pub struct Mesh {
    running: Vec<Running>,
    directory: tempfile::TempDir,
}

impl Mesh {
    /// Starts the nodes; each dials the one before it.
    pub async fn start(prepared: Prepared) -> Result<Self, Failure> {
        let mut running: Vec<Running> = Vec::new();
        for number in 1..=NODES {
            let mut hints = Vec::new();
            if let Some(before) = running.last() {
                let address = before.node.endpoint.local_addr()?.to_string();
                let target = Target { address, peer: Some(before.node.identity.id.to_string()) };
                hints.push(Hint { target, source: "bench".to_owned() });
            }
            let config = Config {
                directory: Directory::new(prepared.directory.path().join(format!("n{number}"))),
                port: Some(0),
                bind: std::net::Ipv4Addr::LOCALHOST.into(),
                hints,
                http: vec![(std::net::Ipv4Addr::LOCALHOST, 0).into()],
                http_limits: midplane::net::http::Limits::default(),
                open_dirs: Vec::new(),
                http_tls: None,
                executable: program()?,
                instances: INSTANCES_MOST,
            };
            running.push(Running::start(config).await?);
        }
        let mesh = Self { running, directory: prepared.directory };
        for number in 1..=NODES {
            mesh.reachable(number).await?;
        }
        Ok(mesh)
    }

    /// Node `n1`, `n2` or `n3`.
    pub fn node(&self, number: usize) -> &Node {
        &self.running[number - 1].node
    }

    /// Its data directory.
    pub fn directory(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("n{number}"))
    }

    /// Stops the nodes.
    pub async fn stop(self) {
        for running in self.running {
            running.stop().await;
        }
    }

    async fn reachable(&self, number: usize) -> Result<(), Failure> {
        let give_up = clock::monotonic() + READY;
        loop {
            match ask(self.node(number), &addition("warm@bench")).await {
                Ok(answer) if answer == ANSWER => return Ok(()),
                Ok(answer) => return Err(format!("3 + 4 is {answer:?} in CBOR").into()),
                Err(fault) if clock::monotonic() >= give_up => return Err(fault.into()),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// The call that is measured: `add` with 3 and 4.
pub fn addition(name: &str) -> Invocation {
    Invocation {
        name: name.parse().expect("a name"),
        function: "add".to_owned(),
        form: Form::Cbor,
        arguments: ARGUMENTS.to_vec(),
        deadline: clock::deadline_in(CALL_MS),
        idempotent: false,
        trace: false,
        rights: Rights::own([0; 32].into()),
    }
}

/// Makes the call and takes the whole answer, which must be right.
pub async fn call(node: &NodeInner, invocation: &Invocation) {
    let answer = ask(node, invocation).await.expect("an answer");
    assert_eq!(answer, ANSWER);
}

async fn ask(node: &NodeInner, invocation: &Invocation) -> midplane::words::Outcome<Vec<u8>> {
    let mut reply = node.invoke(invocation).await?;
    let mut answer = Vec::new();
    loop {
        match reply.next().await? {
            Next::Items(items) => answer.extend_from_slice(&items),
            Next::Note(_) => {}
            Next::End => return Ok(answer),
        }
    }
}
