//! What the node says of itself to its operator.

use std::sync::atomic::Ordering;

use super::NodeInner;
use super::generation::Installed;
use super::links::Known;
use super::plans::Planned;
use crate::clock;
use crate::decisions::update::date;
use crate::words::control::{Found, HopReport, PeerReport, PluginReport, RouteReport, Status};
use crate::words::count::count;
use crate::words::id::clip;
use crate::words::objects::Kind;
use crate::words::{Code, Fault, Name, NodeId, Outcome, Trust};

/// A manifest or membership that ends within this time is worth a warning.
const SOON_MS: u64 = 7 * 24 * 3_600_000;
/// Least characters by which a node is named. Fewer are typed by mistake.
const PREFIX_LEAST: usize = 4;
/// Nodes that a failure names.
const SHOWN_MOST: usize = 16;

impl NodeInner {
    /// How the node is.
    pub fn status(&self) -> Outcome<Status> {
        let generation = self.generation.load_full();
        // Not of the trust files: they are locked while a manifest is applied, and it is asked for then above all.
        let taken = self.spread.taken();
        let links = self.links.all().len();
        let known = self.links.known().len();
        let plan = self.engines.plan();
        let datasets = self.dataset_reports();
        Ok(Status {
            node: self.identity.id,
            label: self.identity.label.clone(),
            tags: self.identity.membership.tags.clone(),
            mesh: self.identity.mesh,
            root: self.trusted.load().root.version,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            address: self.endpoint.local_addr()?.to_string(),
            http: self.http.iter().map(ToString::to_string).collect(),
            generation: generation.version,
            floor: taken.floor,
            held_instead_of: generation.instead_of,
            returned: generation.returned.clone(),
            probation: self.probation.get(),
            swaps: self.swap_reports(),
            swap_floor: self.swap_floor.load(Ordering::Relaxed),
            passes_on: taken.announces.map_or(0, |announced| announced.version),
            forks: self.spread.forks(),
            manifest_expires: generation.manifest.as_ref().map(|manifest| manifest.expires),
            plugins: u32::try_from(generation.plugins.len()).unwrap_or(u32::MAX),
            links: u32::try_from(links).unwrap_or(u32::MAX),
            pending: u32::try_from(known.saturating_sub(links)).unwrap_or(u32::MAX),
            entries: datasets.iter().map(|dataset| dataset.entries).sum(),
            conflicts: datasets.iter().map(|dataset| dataset.conflicts).sum(),
            protection: "link".to_owned(),
            instances: plan.instances,
            limited_by: plan.reasons.iter().map(ToString::to_string).collect(),
            warnings: self.warnings(),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let now = clock::now_ms();
        let generation = self.generation.load_full();
        let mut warnings = Vec::new();
        let mut ends = |what: &str, expires: u64| {
            if expires <= now {
                warnings.push(format!("{what} expired on {}", date(expires)));
            } else if expires - now < SOON_MS {
                warnings.push(format!("{what} expires on {}", date(expires)));
            }
        };
        ends("the root", self.trusted.load().root.expires);
        ends("the membership of this node", self.identity.membership.expires);
        if let Some(manifest) = &generation.manifest {
            ends("the manifest", manifest.expires);
        }
        if let (Some(newest), Some(why)) = (generation.instead_of, &generation.returned) {
            let version = generation.version;
            warnings.push(format!(
                "generation {newest} was no good and is not applied again, {version} came back: {why}"
            ));
        } else if let Some(newest) = generation.instead_of {
            let version = generation.version;
            warnings.push(format!(
                "generation {version} is held by a rollback, {newest} should run; the next manifest ends it, or midplane rollback {newest}"
            ));
        }
        for (installed, named) in generation.swapped() {
            let (slot, named) = (&installed.entry.slot, named.short());
            warnings.push(format!(
                "{slot} runs another component than {named} of the manifest; the next manifest ends it, or midplane rollback"
            ));
        }
        warnings.extend(self.spread_warnings());
        match self.restore_fault.get() {
            _ if generation.version > 0 => {}
            Some(fault) => warnings
                .push(format!("the last generation did not come back: {fault}; apply a manifest again")),
            None => warnings.push("nothing runs yet: midplane apply MANIFEST".to_owned()),
        }
        let dials = generation.policies().any(|(installed, _)| installed.entry.kind == Kind::Discovery);
        if generation.version > 0 && !self.hints.is_empty() && !dials {
            let peers = count(self.hints.len(), "peer");
            warnings.push(format!(
                "nobody dials the {peers} that this node was told of: the manifest has no discovery"
            ));
        }
        for (installed, slot) in generation.policies() {
            if !slot.health().running {
                warnings
                    .push(format!("{} is not running; the last plans stay in force", installed.entry.slot));
            }
        }
        warnings
    }

    /// What runs.
    pub fn plugin_reports(&self) -> Vec<PluginReport> {
        let generation = self.generation.load_full();
        let report = |installed| PluginReport {
            instead_of: generation.named(installed),
            ..self.plugin_report(installed)
        };
        generation.plugins.values().map(|installed| report(installed)).collect()
    }

    /// Who is connected, and who is dialled in vain.
    pub fn peer_reports(&self) -> Vec<PeerReport> {
        let links = self.links.all();
        let mut refused = self.spread.refused();
        let known = self.links.known();
        let mut reports: Vec<PeerReport> = known
            .iter()
            .map(|(peer, known)| {
                let welcome = links.get(peer).map(|link| link.welcome.clone());
                PeerReport {
                    node: Some(*peer),
                    label: welcome.as_ref().map(|welcome| welcome.label.clone()).unwrap_or_default(),
                    state: if welcome.is_some() { "linked" } else { "pending" }.to_owned(),
                    announces: welcome
                        .as_ref()
                        .and_then(|welcome| welcome.newest)
                        .map_or(0, |newest| newest.version),
                    refused: refused.remove(peer).map(|refused| refused.why),
                    generation: welcome.map_or(0, |welcome| welcome.generation),
                    ..known_report(known)
                }
            })
            .collect();
        reports.extend(self.dials.waiting().into_iter().map(|(address, why)| PeerReport {
            node: None,
            label: String::new(),
            address,
            state: "dialling".to_owned(),
            trust: Trust::Unknown,
            tags: Vec::new(),
            dialled: true,
            rtt_us: 0,
            generation: 0,
            announces: 0,
            refused: None,
            up_ms: 0,
            why,
        }));
        reports
    }

    /// Which node a word means: an id, the beginning of one, or a label.
    pub fn find(&self, wanted: &str) -> Outcome<Found> {
        let mut nodes = self.known_nodes();
        // An id that nobody here has heard of is not wrong for that.
        if let Ok(node) = wanted.parse() {
            nodes.entry(node).or_default();
        }
        let means = |node: &NodeId, label: &Option<String>| {
            label.as_deref() == Some(wanted)
                || wanted.len() >= PREFIX_LEAST && node.to_string().starts_with(wanted)
        };
        let found: Vec<_> = nodes.iter().filter(|(node, label)| means(node, label)).collect();
        match found.as_slice() {
            [(node, label)] => {
                let label = (*label).clone().unwrap_or_default();
                let claim = self.claims.serial(&Name::of_node(node), node, clock::now_ms());
                Ok(Found { node: **node, label, mesh: self.identity.mesh, claim })
            }
            [] => {
                let labels: Vec<&str> =
                    nodes.values().flatten().map(String::as_str).take(SHOWN_MOST).collect();
                let what = format!("{:?} is no node that is known here", clip(wanted));
                Err(Fault::new(Code::NotFound, what)
                    .fix(format!("an id, the beginning of one, or a label: {}", labels.join(", "))))
            }
            several => {
                let ids: Vec<String> =
                    several.iter().map(|(node, _)| node.short()).take(SHOWN_MOST).collect();
                let what = format!("{:?} is more than one node: {}", clip(wanted), ids.join(", "));
                Err(Fault::new(Code::Usage, what).fix("name it by its id"))
            }
        }
    }

    /// Where names go from here.
    pub fn route_reports(&self, only: Option<&Name>) -> Outcome<Vec<RouteReport>> {
        let now = clock::now_ms();
        let generation = self.generation.load_full();
        let mut names = self.claims.names(now);
        // Every node has a name of its own; they are shown when one is asked for.
        names.retain(|name| !name.is_reserved());
        names.extend(generation.skills.keys().cloned());
        if let Some(only) = only {
            names = [only.clone()].into();
        }
        names.into_iter().map(|name| self.route_report(name, now)).collect()
    }

    fn plugin_report(&self, installed: &Installed) -> PluginReport {
        let entry = &installed.entry;
        let health = installed.health();
        PluginReport {
            slot: entry.slot.clone(),
            kind: entry.kind,
            component: entry.component.digest,
            instead_of: None,
            names: entry.names.clone(),
            mount: entry.mount.clone(),
            engine: installed.code.kind.as_str().to_owned(),
            grants: crate::decisions::grants::lines(&entry.grants),
            bindings: entry.bindings.clone(),
            running: health.as_ref().is_none_or(|health| health.running),
            restarts: health.as_ref().map_or(0, |health| health.restarts),
            served: health
                .as_ref()
                .map_or_else(|| installed.served.load(Ordering::Relaxed), |health| health.events),
            datasets: entry
                .datasets
                .iter()
                .map(|dataset| self.datasets.report(&entry.slot, dataset))
                .collect(),
            last_fault: installed.last_fault(),
        }
    }

    fn route_report(&self, name: Name, now: u64) -> Outcome<RouteReport> {
        let mut report = RouteReport { name: name.clone(), local: false, hops: Vec::new(), unroutable: None };
        let planned = match self.plan(&name, None, None) {
            Ok(planned) => planned,
            Err(fault) => {
                report.unroutable = Some(fault.to_string());
                return Ok(report);
            }
        };
        match &*planned {
            Planned::Local => report.local = true,
            Planned::Unroutable(why) => report.unroutable = Some(why.clone()),
            Planned::Forward(ways) => {
                for hop in &ways.hops {
                    let (next, to) = (hop.next, hop.to);
                    let link = self.links.get(&next);
                    report.hops.push(HopReport {
                        next,
                        next_label: link.map(|link| link.welcome.label.clone()).unwrap_or_default(),
                        to,
                        distance: hop.distance,
                        claimed: self.claims.holds(&name, &to, now),
                    });
                }
            }
        }
        Ok(report)
    }
}

fn known_report(known: &Known) -> PeerReport {
    PeerReport {
        node: None,
        label: String::new(),
        address: known.address.clone(),
        state: String::new(),
        trust: known.trust,
        tags: known.tags.clone(),
        dialled: known.dialled,
        rtt_us: u64::try_from(known.connection.rtt().as_micros()).unwrap_or(u64::MAX),
        generation: 0,
        announces: 0,
        refused: None,
        up_ms: u64::try_from(known.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        why: known.why.clone(),
    }
}
