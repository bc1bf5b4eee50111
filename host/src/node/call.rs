//! Calls: from a name to an answer, here or over links.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quinn::{RecvStream, SendStream};

use super::NodeInner;
use super::canary::Canary;
use super::generation;
use super::links::Link;
use super::plans::{Found, Planned, Ways};
use super::reply::{Remote, Reply};
use crate::clock::{self, Instant};
use crate::decisions::hops::{Candidate, order};
use crate::decisions::rights::Rights;
use crate::decisions::trust::{self, Operation};
use crate::net::FrameWriter;
use crate::policy::routing::{self, Query};
use crate::wasm::workload::{Answer, Request, Workload};
use crate::words::count::count;
use crate::words::envelope::{ARGUMENTS_MAX, FixedRef, encode_open};
use crate::words::frame::{Exchange, FrameKind};
use crate::words::hop::Hop;
use crate::words::note::Note;
use crate::words::schema::Form;
use crate::words::{Code, Digest, Fault, Name, NodeId, Outcome};

/// Arguments of one call, all frames together.
pub const ARGUMENTS_TOTAL: usize = 1 << 20;
/// Largest item of an answer.
pub const ITEM_MAX: usize = 1 << 20;

/// A call that starts on this node.
pub struct Invocation {
    /// What is called.
    pub name: Name,
    /// Its function.
    pub function: String,
    /// How the arguments are meant.
    pub form: Form,
    /// CBOR.
    pub arguments: Vec<u8>,
    /// End of the whole call.
    pub deadline: Instant,
    /// Whether it may be tried again where it may have started.
    pub idempotent: bool,
    /// Whether each hop reports itself.
    pub trace: bool,
    /// On whose behalf.
    pub rights: Rights,
}

impl NodeInner {
    /// Calls a function by name.
    pub async fn invoke(&self, call: &Invocation) -> Outcome<Reply> {
        let started = clock::monotonic();
        match &*self.plan(&call.name, None, None)? {
            Planned::Local => {
                let request = Request {
                    function: &call.function,
                    form: call.form,
                    arguments: &call.arguments,
                    deadline: call.deadline,
                    rights: call.rights,
                };
                let (answer, digest) = self.serve_local(&call.name, request).await?;
                let notes = if call.trace {
                    vec![self.note(None, Some(digest), started, "served here".to_owned())]
                } else {
                    Vec::new()
                };
                Ok(Reply::Local(answer, notes, digest))
            }
            // Boxed, so that a call that stays here does not move the state of one that goes.
            Planned::Forward(ways) => Box::pin(self.invoke_remote(call, ways, started)).await,
            Planned::Unroutable(why) => Err(self.no_route(&call.name, why)),
        }
    }

    /// Calls a skill of this node, if it is exposed to those on whose behalf the call is.
    pub async fn serve_local(&self, name: &Name, request: Request<'_>) -> Outcome<(Answer, Digest)> {
        let mut serving = self.skill(name, &request.rights)?;
        loop {
            let (workload, digest, canary) = serving;
            let (called, digest) = match canary {
                None => (workload.call(request).await, digest),
                Some(canary) => Box::pin(canary.call(&workload, digest, request)).await,
            };
            let fault = match called {
                Ok(answer) => return Ok((answer, digest)),
                Err(fault) => fault,
            };
            // It was replaced while the call waited for its turn, and nothing had started.
            if fault.code == Code::Busy && workload.places().is_closed() {
                serving = self.skill(name, &request.rights)?;
                if !Arc::ptr_eq(&serving.0, &workload) {
                    continue;
                }
            }
            self.note_trap(&fault);
            return Err(fault);
        }
    }

    /// The skill that has this name now, if it is exposed to those on whose behalf the call is.
    fn skill(&self, name: &Name, rights: &Rights) -> Outcome<(Arc<Workload>, Digest, Option<Arc<Canary>>)> {
        let generation = self.generation.load();
        let installed = generation::skill(&generation, name)?;
        trust::check(Operation::Call(installed.entry.expose), rights.trust, &rights.from)?;
        let generation::Runs::Skill(workload) = &installed.runs else {
            return Err(Fault::new(Code::Internal, format!("{name} is not a skill")));
        };
        installed.served.fetch_add(1, Ordering::Relaxed);
        Ok((workload.clone(), installed.entry.component.digest, installed.canary.canary()))
    }

    async fn invoke_remote(&self, call: &Invocation, ways: &Ways, started: Instant) -> Outcome<Reply> {
        let mut last = None;
        for (link, to) in self.ways(&call.name, ways, None, &[]) {
            let next = link.peer;
            match self.try_way(call, &link, to).await {
                Ok(mut remote) => {
                    if call.trace {
                        let decision = format!("to {} over {}", to.short(), link.welcome.label);
                        remote.add(self.note(Some(next), None, started, decision));
                    }
                    return Ok(Reply::Remote(remote));
                }
                Err(fault) => {
                    self.report_outcome(&call.name, next, to, &fault);
                    let again = fault.not_started() || call.idempotent && fault.code == Code::LinkLost;
                    last = Some(fault);
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| self.no_route(&call.name, "no way is open")))
    }

    /// Sends the call over one link and waits for the first word of the answer: until then it may go another way.
    pub(super) async fn try_way(&self, call: &Invocation, link: &Link, to: NodeId) -> Outcome<Remote> {
        let (first, rest) = call.arguments.split_at(call.arguments.len().min(ARGUMENTS_MAX));
        let fixed = FixedRef {
            id: &self.call_id(),
            from: self.identity.id,
            name: call.name.as_str(),
            to: Some(to),
            function: &call.function,
            form: call.form.number(),
            arguments: first,
            more: !rest.is_empty(),
            idempotent: call.idempotent,
            created: clock::now_ms(),
        };
        let mut fixed_bytes = Vec::new();
        fixed.encode(&mut fixed_bytes)?;
        let left = u32::try_from(clock::left_ms(call.deadline)).unwrap_or(u32::MAX);
        let Rights { trust, depth, .. } = call.rights;
        let hop = Hop { trace: call.trace, trust, depth, ..Hop::start(left) };
        let (send, recv) = open(link).await?;
        let mut writer = FrameWriter::new(send);
        writer.push_with(FrameKind::Open, |out| encode_open(out, Exchange::Invoke, &fixed_bytes, &hop))?;
        if rest.is_empty() {
            writer.finish().await?;
        } else {
            writer.last(rest).await?;
        }
        Remote::begun(recv, call.deadline, link.peer).await
    }

    /// The plan for a call: kept, or asked for. While routing cannot answer, the last plan stays in force.
    pub fn plan(&self, name: &Name, to: Option<NodeId>, from: Option<NodeId>) -> Outcome<Arc<Planned>> {
        let now = clock::now_ms();
        let (found, epoch) = self.plans.find(name.as_str(), to, from, now);
        let stale = match found {
            Found::Valid(choice) => return Ok(choice),
            Found::Stale(choice) => Some(choice),
            Found::Nothing => None,
        };
        let generation = self.generation.load();
        let Some(routing) = &generation.routing else {
            // Without a routing policy there is nobody to choose: only what this node serves itself can be called.
            return if generation.skills.contains_key(name) {
                Ok(Arc::new(Planned::Local))
            } else {
                Err(self.no_route(name, "this node runs no routing policy and does not serve it"))
            };
        };
        let query = Query {
            name: name.to_string(),
            to: to.map(|to| to.to_string()),
            from: from.map(|from| from.to_string()),
        };
        match routing.ask(|machine| machine.decide(now, &query)) {
            Ok(plan) => Ok(self.plans.keep(&query, plan, epoch, now)),
            Err(fault) => stale.ok_or(fault),
        }
    }

    /// The open ways of a plan in the order in which they are tried: linked, claimed, and not back to where the call comes from.
    pub fn ways(
        &self,
        name: &Name,
        ways: &Ways,
        from: Option<NodeId>,
        chain: &[NodeId],
    ) -> Vec<(Arc<Link>, NodeId)> {
        let now = clock::now_ms();
        let open = |way: &&Candidate| Some(way.next) != from && !chain.contains(&way.next);
        let claimed = |way: &&Candidate| self.claims.holds(name, &way.to, now);
        let candidates: Vec<Candidate> = ways.hops.iter().filter(open).filter(claimed).copied().collect();
        let random = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
        let caller = from.unwrap_or(self.identity.id);
        let caller =
            u64::from_le_bytes(std::array::from_fn(|at| caller.as_bytes().get(at).copied().unwrap_or(0)));
        order(&candidates, ways.pick, random, caller)
            .into_iter()
            .filter_map(|position| {
                let candidate = candidates.get(position)?;
                Some((self.links.get(&candidate.next)?, candidate.to))
            })
            .collect()
    }

    /// Tells routing of a hop that did not work.
    pub fn report_outcome(&self, name: &Name, next: NodeId, to: NodeId, fault: &Fault) {
        if let Some(routing) = &self.generation.load().routing {
            let outcome = routing::CallOutcome {
                name: name.to_string(),
                next: next.to_string(),
                to: to.to_string(),
                code: fault.code.as_str().to_owned(),
            };
            routing.try_tell(routing::Event::Outcome(outcome));
        }
    }

    /// What this node says of itself in a traced call.
    pub fn note(
        &self,
        next: Option<NodeId>,
        plugin: Option<Digest>,
        started: Instant,
        decision: String,
    ) -> Note {
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (node, label) = (self.identity.id, self.identity.label.clone());
        Note::Hop { node, label, next, plugin, took_us, decision }
    }

    /// The refusal for a name that leads nowhere, with the nearest name that leads somewhere.
    pub fn no_route(&self, name: &Name, why: &str) -> Fault {
        let mut names = self.claims.names(clock::now_ms());
        // The nodes' own names are not called by people.
        names.retain(|name| !name.is_reserved());
        names.extend(self.generation.load().skills.keys().cloned());
        let fault =
            Fault::new(Code::NoRoute, format!("{name} is {why} ({} known)", count(names.len(), "name")));
        let fault = if why.starts_with("not ") {
            fault
        } else {
            Fault::new(Code::NoRoute, format!("{name}: {why} ({} known)", count(names.len(), "name")))
        };
        let near = names
            .iter()
            .map(|known| (strsim::jaro_winkler(known.as_str(), name.as_str()), known))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((score, near)) if score > 0.7 && near != name => fault.fix(format!("did you mean {near}?")),
            _ => fault.fix("`midplane routes` lists the names that can be reached"),
        }
    }

    /// A new id for a call that starts here.
    pub fn call_id(&self) -> [u8; 16] {
        let count = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        let (high, low) = id.split_at_mut(8);
        high.copy_from_slice(&self.identity.random.to_le_bytes());
        low.copy_from_slice(&count.to_le_bytes());
        id
    }
}

/// Opens a stream for one exchange.
pub async fn open(link: &Link) -> Outcome<(SendStream, RecvStream)> {
    /// A peer that has 256 streams of ours open does not get another one soon.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
    match tokio::time::timeout(PATIENCE, link.connection.open_bi()).await {
        Ok(Ok(streams)) => Ok(streams),
        // Nothing was sent: the call may go another way.
        Ok(Err(error)) => {
            Err(Fault::new(Code::Unreachable, format!("the link to {} is gone: {error}", link.peer.short())))
        }
        Err(_) => {
            Err(Fault::new(Code::Busy, format!("{} takes no more calls at the moment", link.peer.short())))
        }
    }
}
