//! What the node says of itself to its operator.

use std::sync::atomic::Ordering;

use super::NodeInner;
use super::generation::{Installed, Runs};
use super::links::Known;
use crate::clock;
use crate::decisions::update::date;
use crate::policy::routing::Choice;
use crate::words::control::{HopReport, PeerReport, PluginReport, RouteReport, Status};
use crate::words::{Name, NodeId, Outcome, Trust};

/// A manifest or membership that ends within this time is worth a warning.
const SOON_MS: u64 = 7 * 24 * 3_600_000;

impl NodeInner {
    /// How the node is.
    pub async fn status(&self) -> Outcome<Status> {
        let generation = self.generation.load_full();
        let floor = self.trust.lock().await.manifest_floor;
        let links = self.links.all().len();
        let known = self.links.known().len();
        let plan = self.engines.plan();
        Ok(Status {
            node: self.identity.id,
            label: self.identity.label.clone(),
            tags: self.identity.membership.tags.clone(),
            mesh: self.identity.trusted.mesh,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            address: self.endpoint.local_addr()?.to_string(),
            generation: generation.version,
            floor,
            manifest_expires: generation.manifest.as_ref().map(|manifest| manifest.expires),
            plugins: u32::try_from(generation.plugins.len()).unwrap_or(u32::MAX),
            links: u32::try_from(links).unwrap_or(u32::MAX),
            pending: u32::try_from(known.saturating_sub(links)).unwrap_or(u32::MAX),
            protection: "link".to_owned(),
            instances: plan.instances,
            limited_by: plan.reasons.clone(),
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
        ends("the root", self.identity.trusted.root.expires);
        ends("the membership of this node", self.identity.membership.expires);
        if let Some(manifest) = &generation.manifest {
            ends("the manifest", manifest.expires);
        }
        match self.restore_fault.get() {
            _ if generation.version > 0 => {}
            Some(fault) => warnings
                .push(format!("the last generation did not come back: {fault}; apply a manifest again")),
            None => warnings.push("nothing runs yet: midplane apply MANIFEST".to_owned()),
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
        self.generation.load_full().plugins.values().map(|installed| plugin_report(installed)).collect()
    }

    /// Who is connected, and who is dialled in vain.
    pub fn peer_reports(&self) -> Vec<PeerReport> {
        let links = self.links.all();
        let known = self.links.known();
        let mut reports: Vec<PeerReport> = known
            .iter()
            .map(|(peer, known)| {
                let welcome = links.get(peer).map(|link| link.welcome.clone());
                PeerReport {
                    node: Some(*peer),
                    label: welcome.as_ref().map(|welcome| welcome.label.clone()).unwrap_or_default(),
                    state: if welcome.is_some() { "linked" } else { "pending" }.to_owned(),
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
            up_ms: 0,
            why,
        }));
        reports
    }

    /// Where names go from here.
    pub fn route_reports(&self, only: Option<&Name>) -> Outcome<Vec<RouteReport>> {
        let now = clock::now_ms();
        let generation = self.generation.load_full();
        let mut names = self.claims.names(now);
        names.extend(generation.skills.keys().cloned());
        if let Some(only) = only {
            names = [only.clone()].into();
        }
        names.into_iter().map(|name| self.route_report(name, now)).collect()
    }

    fn route_report(&self, name: Name, now: u64) -> Outcome<RouteReport> {
        let mut report = RouteReport { name: name.clone(), local: false, hops: Vec::new(), unroutable: None };
        let choice = match self.plan(&name, None, None) {
            Ok(choice) => choice,
            Err(fault) => {
                report.unroutable = Some(fault.to_string());
                return Ok(report);
            }
        };
        match &*choice {
            Choice::Local => report.local = true,
            Choice::Unroutable(why) => report.unroutable = Some(why.clone()),
            Choice::Forward(forward) => {
                for hop in &forward.hops {
                    let (next, to): (NodeId, NodeId) = (hop.next.parse()?, hop.to.parse()?);
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

fn plugin_report(installed: &Installed) -> PluginReport {
    let entry = &installed.entry;
    let mut grants = Vec::new();
    if entry.grants.node.is_some() {
        grants.push("node = \"read\"".to_owned());
    }
    if !entry.grants.resolve.is_empty() {
        grants.push(format!("resolve = {:?}", entry.grants.resolve));
    }
    let health = match &installed.runs {
        Runs::Policy(slot) => Some(slot.health()),
        Runs::Skill(_) => None,
    };
    PluginReport {
        slot: entry.slot.clone(),
        kind: entry.kind,
        component: entry.component.digest,
        names: entry.names.clone(),
        engine: installed.engine.as_str().to_owned(),
        grants,
        running: health.as_ref().is_none_or(|health| health.running),
        restarts: health.as_ref().map_or(0, |health| health.restarts),
        served: health
            .as_ref()
            .map_or_else(|| installed.served.load(Ordering::Relaxed), |health| health.events),
        last_fault: health.and_then(|health| health.last_fault),
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
        up_ms: u64::try_from(known.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        why: known.why.clone(),
    }
}
