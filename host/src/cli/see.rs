//! `status`, `plugins`, `peers`, `routes`: what a node says of itself.

use super::client::{ASK, ask, block_on};
use super::output::{ago, table};
use super::{Global, parsed};
use crate::clock;
use crate::decisions::update::date;
use crate::words::control::{self, PeerReport, PluginReport, Request, RouteReport};
use crate::words::count::count;
use crate::words::swap::SwapReport;
use crate::words::{Name, Outcome};

/// Arguments of `midplane status`.
#[derive(clap::Args)]
pub(super) struct Status {}

impl Status {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let status: control::Status = block_on(global.timeout.or(Some(ASK)), ask(global, &Request::Status))?;
        global.out().report(&status, text);
        Ok(())
    }
}

fn text(status: &control::Status) -> String {
    let mut lines = vec![
        format!("node        {} ({})", status.node, status.label),
        format!("mesh        {} (root {})", status.mesh, status.root),
        format!("address     {}", status.address),
        format!("running     midplane {}, pid {}, up {}", status.version, status.pid, ago(status.uptime_ms)),
        format!(
            "generation  {}{} (highest accepted: {}), {}",
            status.generation,
            status.held_instead_of.map(|newest| format!(", held instead of {newest}")).unwrap_or_default(),
            status.floor,
            count(status.plugins, "plugin")
        ),
        format!("links       {} up, {} pending", status.links, status.pending),
        format!("datasets    {}, {}", count(status.entries, "entry"), count(status.conflicts, "conflict")),
        format!(
            "protection  {}: each link is encrypted; forwarding nodes are trusted with what they carry",
            status.protection
        ),
        format!("instances   {} per engine", status.instances),
    ];
    lines.extend(status.http.iter().map(|address| format!("http        http://{address}")));
    lines.extend(status.swaps.iter().map(swapped));
    if let Some(probation) = &status.probation {
        let left = probation.left(clock::now_ms());
        let confirm = if probation.confirm { ", and to be confirmed" } else { "" };
        lines.push(format!("probation   {left} s more{confirm}; what goes wrong meanwhile takes it back"));
    }
    if let Some(expires) = status.manifest_expires {
        lines.push(format!("expires     {} (the manifest)", date(expires)));
    }
    if !status.tags.is_empty() {
        lines.push(format!("tags        {}", status.tags.join(", ")));
    }
    lines.extend(status.limited_by.iter().map(|reason| format!("limited by  {reason}")));
    lines.extend(status.warnings.iter().map(|warning| format!("warning     {warning}")));
    lines.join("\n")
}

fn swapped(swap: &SwapReport) -> String {
    let SwapReport { slot, component, instead_of, since, signers } = swap;
    let signers: Vec<String> = signers.iter().map(|key| key.short()).collect();
    format!(
        "swapped     {slot}: {} instead of {}, since {}, signed by {}",
        component.short(),
        instead_of.short(),
        date(*since),
        signers.join(", ")
    )
}

/// Arguments of `midplane plugins`.
#[derive(clap::Args)]
pub(super) struct Plugins {}

impl Plugins {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let plugins: Vec<PluginReport> =
            block_on(global.timeout.or(Some(ASK)), ask(global, &Request::Plugins))?;
        global.out().report(&plugins, |plugins| {
            let rows: Vec<Vec<String>> = plugins
                .iter()
                .map(|plugin| {
                    let datasets = plugin.datasets.iter().map(|one| {
                        format!(
                            "{}: {}, {}",
                            one.dataset,
                            count(one.entries, "entry"),
                            count(one.conflicts, "conflict")
                        )
                    });
                    let bindings = plugin.bindings.iter().map(|(import, name)| format!("{import} = {name}"));
                    let names: Vec<String> = plugin
                        .names
                        .iter()
                        .map(Name::to_string)
                        .chain(plugin.mount.clone())
                        .chain(datasets)
                        .chain(bindings)
                        .collect();
                    let state = match &plugin.last_fault {
                        _ if !plugin.running => "down".to_owned(),
                        Some(fault) => format!("running, {} restarts, last: {}", plugin.restarts, fault.code),
                        None => "running".to_owned(),
                    };
                    vec![
                        plugin.slot.clone(),
                        plugin.kind.to_string(),
                        match plugin.instead_of {
                            Some(named) => format!("{}, not {}", plugin.component.short(), named.short()),
                            None => plugin.component.short(),
                        },
                        plugin.engine.clone(),
                        plugin.served.to_string(),
                        state,
                        names.join(", "),
                    ]
                })
                .collect();
            let says = "NAMES, MOUNT, DATASETS, BINDINGS";
            table(&["SLOT", "KIND", "COMPONENT", "ENGINE", "SERVED", "STATE", says], &rows)
        });
        Ok(())
    }
}

/// Arguments of `midplane peers`.
#[derive(clap::Args)]
pub(super) struct Peers {
    /// Also say why a peer is not linked
    #[arg(long)]
    why: bool,
}

impl Peers {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let peers: Vec<PeerReport> = block_on(global.timeout.or(Some(ASK)), ask(global, &Request::Peers))?;
        global.out().report(&peers, |peers| {
            let mut text = table(
                &["PEER", "LABEL", "STATE", "TRUST", "ADDRESS", "RTT", "GENERATION", "UP"],
                &peers.iter().map(row).collect::<Vec<_>>(),
            );
            for peer in peers.iter().filter(|_| self.why) {
                if let Some(why) = &peer.why {
                    text += &format!("\n{}: {why}", peer.address);
                }
                if let Some(why) = &peer.refused {
                    text +=
                        &format!("\n{}: its manifest {} is not taken: {why}", peer.address, peer.announces);
                }
            }
            text
        });
        Ok(())
    }
}

fn row(peer: &PeerReport) -> Vec<String> {
    let linked = peer.state == "linked";
    let shown = |text: String| if linked { text } else { "-".to_owned() };
    vec![
        peer.node.map_or_else(|| "?".to_owned(), |node| node.short()),
        if peer.label.is_empty() { "-".to_owned() } else { peer.label.clone() },
        peer.state.clone(),
        peer.trust.to_string(),
        peer.address.clone(),
        shown(format!("{:.1} ms", peer.rtt_us as f64 / 1000.0)),
        shown(peer.generation.to_string()),
        shown(ago(peer.up_ms)),
    ]
}

/// Arguments of `midplane routes`.
#[derive(clap::Args)]
pub(super) struct Routes {
    /// Only this name
    #[arg(value_parser = parsed::<Name>)]
    name: Option<Name>,
}

impl Routes {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let request = Request::Routes { name: self.name.clone() };
        let routes: Vec<RouteReport> = block_on(global.timeout.or(Some(ASK)), ask(global, &request))?;
        global.out().report(&routes, |routes| {
            let rows: Vec<Vec<String>> = routes.iter().flat_map(ways).collect();
            table(&["NAME", "SERVED BY", "OVER", "DISTANCE"], &rows)
        });
        Ok(())
    }
}

fn ways(route: &RouteReport) -> Vec<Vec<String>> {
    let name = route.name.to_string();
    if route.local {
        return vec![vec![name, "this node".into(), "-".into(), "0".into()]];
    }
    if let Some(why) = &route.unroutable {
        return vec![vec![name, format!("nobody: {why}"), "-".into(), "-".into()]];
    }
    route
        .hops
        .iter()
        .map(|hop| {
            let to =
                if hop.claimed { hop.to.short() } else { format!("{} (no valid claim)", hop.to.short()) };
            let over = if hop.next_label.is_empty() { hop.next.short() } else { hop.next_label.clone() };
            vec![name.clone(), to, over, hop.distance.to_string()]
        })
        .collect()
}
