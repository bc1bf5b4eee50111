//! `midplane run`: the node itself, headless.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{self, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Global;
use crate::decisions::sizing::INSTANCES_MOST;
use crate::interface::http::tls;
use crate::net::http::Limits;
use crate::node::{Config, Running, given};
use crate::policy::discovery::{Hint, Target};
use crate::store::files;
use crate::words::{Code, Fault, NodeId, Outcome};

/// Largest file of peers.
const PEERS_MAX: u64 = 1 << 20;
/// Exit code of a process that was interrupted twice.
const EXIT_ABORTED: i32 = 130;

/// How many tasks a thread polls before it looks for packets and timers. One poll of a guest that computes takes a whole tick of the
/// epoch; with tokio's 61 the others would wait that many ticks.
const POLLS_BETWEEN_EVENTS: u32 = 8;

/// Arguments of `midplane run`.
#[derive(clap::Args)]
pub(super) struct Run {
    /// UDP port; 0 takes any free one and keeps it [default: the one of last time, or 6437]
    #[arg(long, env = "MIDPLANE_PORT")]
    port: Option<u16>,
    /// Address to listen on
    #[arg(long, env = "MIDPLANE_BIND", default_value = "::", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Where a peer may be: HOST:PORT, or NODE-ID@HOST:PORT to take nobody else there. May be given several times
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<String>,
    /// Where gateways answer HTTP, ADDRESS:PORT; port 0 takes any free one. May be given several times [default: nowhere]
    #[arg(long, env = "MIDPLANE_HTTP", value_delimiter = ',', value_name = "ADDRESS")]
    http: Vec<SocketAddr>,
    /// How long an HTTP client may take for the head of a request; its other deadlines are two and three times that
    #[arg(long, env = "MIDPLANE_HTTP_PATIENCE", default_value = "5s", value_parser = patience, value_name = "TIME")]
    http_patience: Duration,
    /// A PEM file of authorities that plugins trust as well when they ask others over TLS (`grants.http`). May be given several times
    #[arg(long = "http-ca", env = "MIDPLANE_HTTP_CA", value_name = "FILE", value_delimiter = ':')]
    http_ca: Vec<PathBuf>,
    /// A file of peers: one per line, `#` begins a comment
    #[arg(long, env = "MIDPLANE_PEERS_FILE", value_name = "FILE")]
    peers_file: Option<PathBuf>,
    /// A directory that plugins may read where the manifest grants it, with all below it. May be given several times
    #[arg(long = "allow-dir", env = "MIDPLANE_ALLOW_DIRS", value_name = "DIR", value_delimiter = ':')]
    allow_dirs: Vec<PathBuf>,
    /// The same for writing
    #[arg(
        long = "allow-write-dir",
        env = "MIDPLANE_ALLOW_WRITE_DIRS",
        value_name = "DIR",
        value_delimiter = ':'
    )]
    allow_write_dirs: Vec<PathBuf>,
    /// Instances of workloads that each of the two pools is to hold, if the machine lets it: `doctor` shows what it lets
    #[arg(long, env = "MIDPLANE_INSTANCES", value_name = "N", default_value_t = INSTANCES_MOST, value_parser = clap::value_parser!(u32).range(1..))]
    instances: u32,
    /// The process that this node is to end with: a cluster
    #[arg(long, hide = true, value_name = "PID")]
    with: Option<i32>,
}

impl Run {
    pub(super) fn run(&self, global: &Global) -> Outcome<u8> {
        if let Some(parent) = self.with
            && !ends_with(parent)?
        {
            return Ok(0);
        }
        let filter = EnvFilter::try_from_env("MIDPLANE_LOG").unwrap_or_else(|_| {
            EnvFilter::new(if global.verbose { "midplane=debug" } else { "midplane=info" })
        });
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(
                std::env::var_os("NO_COLOR").is_none()
                    && std::io::IsTerminal::is_terminal(&std::io::stderr()),
            )
            .with_target(false)
            .init();
        let config = Config {
            directory: global.directory(),
            port: self.port,
            bind: self.bind,
            hints: self.hints()?,
            instances: self.instances,
            http: self.http.clone(),
            http_limits: Limits { patience: self.http_patience, ..Limits::default() },
            http_tls: self.http_tls()?,
            open_dirs: given::open_dirs(&self.allow_dirs, &self.allow_write_dirs)?,
            executable: std::env::current_exe()
                .map_err(|error| Fault::io("cannot find this program", &error))?,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .event_interval(POLLS_BETWEEN_EVENTS)
            .enable_all()
            .build()
            .map_err(|error| Fault::io("cannot start", &error))?;
        runtime.block_on(run(config))
    }

    fn http_tls(&self) -> Outcome<Option<Arc<rustls::ClientConfig>>> {
        if self.http_ca.is_empty() { Ok(None) } else { tls::trusting(&self.http_ca).map(Some) }
    }

    /// Peers of the command line, the environment and the file, in this order.
    fn hints(&self) -> Outcome<Vec<Hint>> {
        let mut hints = Vec::new();
        for peer in &self.peers {
            hints.push(hint(peer, "command line")?);
        }
        let listed = std::env::var("MIDPLANE_PEERS").unwrap_or_default();
        for peer in listed.split(',').map(str::trim).filter(|peer| !peer.is_empty()) {
            hints.push(hint(peer, "environment")?);
        }
        if let Some(file) = &self.peers_file {
            hints.extend(read_peers(file)?);
        }
        Ok(hints)
    }
}

/// Has the kernel end this process as if asked when its parent ends, however that comes. Whether the parent is still there.
fn ends_with(parent: i32) -> Outcome<bool> {
    process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Fault::io("cannot be told of the parent's end", &error.into()))?;
    Ok(process::getppid().is_some_and(|is| is.as_raw_nonzero().get() == parent))
}

async fn run(config: Config) -> Outcome<u8> {
    let fail = |error: std::io::Error| Fault::io("cannot listen for signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let running = Running::start(config).await?;
    let node = &running.node;
    let address = node.endpoint.local_addr()?;
    eprintln!("node {} ({}) listens on {address}", node.identity.id, node.identity.label);
    for reason in &node.engines.plan().reasons {
        eprintln!("limited by this machine: {reason}; `midplane doctor` says what to change");
    }
    for address in &node.http {
        eprintln!("gateways answer on http://{address}");
    }
    eprintln!("dial it with --peer {}@HOST:{}", node.identity.id, address.port());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(EXIT_ABORTED);
    });
    running.stop().await;
    Ok(0)
}

/// Least and most patience with an HTTP client: below it nobody on a slow line gets through, above it a few hold all connections.
const PATIENCE_MS: std::ops::RangeInclusive<u128> = 100..=60_000;

fn patience(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if PATIENCE_MS.contains(&time.as_millis()) { Ok(time) } else { Err("is between 100ms and 60s".into()) }
}

fn read_peers(file: &Path) -> Outcome<Vec<Hint>> {
    let bytes = files::read_limited(file, PEERS_MAX)?
        .ok_or_else(|| Fault::new(Code::NotFound, format!("{} is not there", file.display())))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| hint(line, "peers file"))
        .collect()
}

/// Parses `[NODE-ID@]HOST:PORT`.
pub(super) fn hint(text: &str, source: &str) -> Outcome<Hint> {
    let bad = || {
        Fault::new(Code::Usage, format!("not a peer ({source}): {:?}", crate::words::id::clip(text)))
            .fix("HOST:PORT or NODE-ID@HOST:PORT, for example 192.0.2.7:6437 or [2001:db8::7]:6437")
    };
    let (peer, address) = match text.split_once('@') {
        Some((id, address)) => (Some(id.parse::<NodeId>()?.to_string()), address),
        None => (None, text),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    if host.is_empty() || bare_v6 || port.parse::<u16>().is_err() {
        return Err(bad());
    }
    Ok(Hint { target: Target { address: address.to_owned(), peer }, source: source.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_parsed() {
        let id = NodeId::from([3; 32]).to_string();
        let with_id = hint(&format!("{id}@edge.example:6437"), "test").unwrap();
        assert_eq!(with_id.target, Target { address: "edge.example:6437".into(), peer: Some(id) });
        assert!(hint("[::1]:1", "test").is_ok());
        for bad in ["", "host", "host:", ":1", "host:70000", "::1:6437", "abc@host:1"] {
            assert_eq!(hint(bad, "test").unwrap_err().code, Code::Usage, "{bad:?}");
        }
    }

    #[test]
    fn a_file_of_peers_may_have_comments() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# all\na:1\n\n  b:2 # second\n").unwrap();
        let addresses: Vec<String> =
            read_peers(file.path()).unwrap().into_iter().map(|hint| hint.target.address).collect();
        assert_eq!(addresses, ["a:1", "b:2"]);
        assert_eq!(read_peers(Path::new("/missing")).unwrap_err().code, Code::NotFound);
    }
}
