//! `midplane doctor`: what this machine gives a node, what is wrong with its directory, and whether a peer can be reached.

use std::time::Duration;

use serde::Serialize;

use super::client::block_on;
use super::output::table;
use super::{Global, run};
use crate::clock;
use crate::decisions::doctor::{self, Check, Verdict};
use crate::decisions::sizing::{self, INSTANCES_MOST, Machine, Plan};
use crate::net::{Endpoint, endpoint};
use crate::node::DEFAULT_PORT;
use crate::store::directory::Directory;
use crate::store::keys;
use crate::wasm::{engine, machine};
use crate::words::{Code, Fault, Outcome};

/// Time for a handshake with a peer; one that needs more is of no use.
const DIAL: Duration = Duration::from_secs(5);
/// Exit code when something is broken.
const EXIT_BROKEN: u8 = 1;

/// Arguments of `midplane doctor`.
#[derive(clap::Args)]
pub(super) struct Doctor {
    /// Instances that each pool is to hold, as given to `run`
    #[arg(long, env = "MIDPLANE_INSTANCES", value_name = "N", default_value_t = INSTANCES_MOST, value_parser = clap::value_parser!(u32).range(1..))]
    instances: u32,
    /// Also dial a peer with this node's key: HOST:PORT, or NODE-ID@HOST:PORT
    #[arg(long, value_name = "PEER")]
    dial: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    machine: Machine,
    plan: Plan,
    checks: Vec<Check>,
}

impl Doctor {
    pub(super) fn run(&self, global: &Global) -> Outcome<u8> {
        let machine = machine::read();
        let plan = sizing::plan(&machine, engine::POOLS, self.instances);
        let scan = engine::tells_touched_pages();
        let mut checks = doctor::machine(&machine, &plan, endpoint::SOCKET_BYTES as u64, scan);
        let directory = global.directory();
        checks.extend(of_directory(&directory));
        if let Some(peer) = &self.dial {
            checks.push(block_on(None, dial(&directory, peer, global.timeout.unwrap_or(DIAL))).map_or_else(
                |fault| Check::broken("dial", &with_hint(fault)),
                |found| Check::well("dial", found),
            ));
        }
        let broken = checks.iter().any(|check| check.verdict == Verdict::Broken);
        global.out().report(&Report { machine, plan, checks }, text);
        Ok(if broken { EXIT_BROKEN } else { 0 })
    }
}

fn of_directory(directory: &Directory) -> Vec<Check> {
    let mut checks = Vec::new();
    let now = clock::now_ms();
    checks.push(if clock::is_trusted(now) {
        Check::well("clock", crate::decisions::update::date(now))
    } else {
        let found = format!("{}: it was never set", crate::decisions::update::date(now));
        Check::limited("clock", found, "set it; signatures look as if they were from the future until then")
    });
    let existing = directory.path().ancestors().find(|path| path.exists());
    if let Some(free) = existing.and_then(|path| rustix::fs::statvfs(path).ok()) {
        checks.push(doctor::space(free.f_bavail.saturating_mul(free.f_frsize)));
    }
    if !directory.is_initialised() {
        let found = format!("{} has no node yet", directory.path().display());
        checks.push(Check::limited("directory", found, "midplane init"));
        return checks;
    }
    checks.push(match keys::load(&directory.node_key()) {
        Ok(key) => Check::well("key", crate::decisions::cose::node_id(&key).to_string()),
        Err(fault) => Check::broken("key", &fault),
    });
    match directory.lock("midplane doctor") {
        Ok(lock) => {
            drop(lock);
            checks.push(Check::well(
                "directory",
                format!("{}, no node runs there", directory.path().display()),
            ));
            checks.push(port());
        }
        Err(fault) => checks.push(Check::well("directory", fault.what)),
    }
    checks
}

fn port() -> Check {
    match std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)) {
        Ok(_) => Check::well("port", format!("UDP {DEFAULT_PORT} is free")),
        Err(error) => Check::limited("port", format!("UDP {DEFAULT_PORT}: {error}"), "midplane run --port 0"),
    }
}

/// Greets a peer as far as TLS goes, and tells who is there.
async fn dial(directory: &Directory, peer: &str, patience: Duration) -> Outcome<String> {
    let hint = run::hint(peer, "--dial")?;
    directory.require_initialised()?;
    let key = keys::load(&directory.node_key())?;
    let expected = hint.target.peer.as_ref().map(|id| id.parse()).transpose()?;
    let local = Endpoint::bind(&key, (std::net::Ipv6Addr::UNSPECIFIED, 0).into())?;
    let mut last = None;
    for address in endpoint::lookup(&hint.target.address).await? {
        let started = clock::monotonic();
        let connected = tokio::time::timeout(patience, local.connect(address, expected)).await;
        let silent =
            || Fault::new(Code::Unreachable, format!("{address} does not answer within {patience:?}"));
        match connected.unwrap_or_else(|_| Err(silent())) {
            Ok(connection) => {
                let peer = endpoint::peer_id(&connection)?;
                let found = format!("{peer} at {address}, handshake in {} ms", started.elapsed().as_millis());
                local.close(Code::LinkLost, "only a look").await;
                return Ok(found);
            }
            Err(fault) => last = Some(fault),
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(Code::Unreachable, format!("{peer} has no address"))))
}

/// What keeps a datagram from arriving is not to be seen from here; what it may be, is.
fn with_hint(fault: Fault) -> Fault {
    match fault.code {
        Code::Unreachable if fault.fix.is_none() => {
            fault.fix("look whether a node listens there, and whether a firewall lets UDP through both ways")
        }
        _ => fault,
    }
}

fn text(report: &Report) -> String {
    let plan = &report.plan;
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|check| vec![check.name.clone(), check.verdict.as_str().to_owned(), check.found.clone()])
        .collect();
    let mut text = format!(
        "plan   {} instances in each of {} pools, {} MiB reserved for each memory\n       {} compile workers of {} MiB\n\n{}\n",
        plan.instances,
        engine::POOLS,
        plan.memories.reservation >> 20,
        plan.compile_workers,
        plan.compile_memory >> 20,
        table(&["CHECK", "STATE", "FOUND"], &rows)
    );
    for check in &report.checks {
        if let Some(fix) = &check.fix {
            text += &format!("  fix {}: {fix}\n", check.name);
        }
    }
    text
}
