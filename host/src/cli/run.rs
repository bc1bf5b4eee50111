//! `midplane run`: the node itself, headless.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Global;
use crate::node::{Config, Running};
use crate::policy::discovery::{Hint, Target};
use crate::store::files;
use crate::words::{Code, Fault, NodeId, Outcome};

/// Largest file of peers.
const PEERS_MAX: u64 = 1 << 20;
/// Exit code of a process that was interrupted twice.
const EXIT_ABORTED: i32 = 130;

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
    /// A file of peers: one per line, `#` begins a comment
    #[arg(long, env = "MIDPLANE_PEERS_FILE", value_name = "FILE")]
    peers_file: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(&self, global: &Global) -> Outcome<u8> {
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
            executable: std::env::current_exe()
                .map_err(|error| Fault::io("cannot find this program", &error))?,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::io("cannot start", &error))?;
        runtime.block_on(run(config))
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

async fn run(config: Config) -> Outcome<u8> {
    let fail = |error: std::io::Error| Fault::io("cannot listen for signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let running = Running::start(config).await?;
    let node = &running.node;
    let address = node.endpoint.local_addr()?;
    eprintln!("node {} ({}) listens on {address}", node.identity.id, node.identity.label);
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
fn hint(text: &str, source: &str) -> Outcome<Hint> {
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
