//! Calls: from a name to an answer, here or over links.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};

use super::NodeInner;
use super::generation;
use super::links::Link;
use super::plans::Found;
use crate::clock::{self, Instant};
use crate::decisions::hops::{Candidate, Pick, order};
use crate::decisions::trust::{self, Operation};
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::policy::routing::{self, Choice, Query};
use crate::wasm::workload::{Answer, Request};
use crate::words::envelope::{ARGUMENTS_MAX, Fixed, encode_open};
use crate::words::frame::{Exchange, FrameKind};
use crate::words::hop::Hop;
use crate::words::note::{Note, decode_fault};
use crate::words::schema::Form;
use crate::words::{Code, Fault, Name, NodeId, Outcome, Trust};

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
}

/// An answer that is on its way.
#[expect(
    clippy::large_enum_variant,
    reason = "one per call, and a box would be one more allocation for each"
)]
pub enum Reply {
    /// From a plugin of this node.
    Local(Answer, Vec<Note>),
    /// From another node.
    Remote(Remote),
}

/// What comes next of an answer.
pub enum Next {
    /// A CBOR sequence of at least one item.
    Items(Bytes),
    /// What a hop says of itself.
    Note(Note),
    /// There is no more.
    End,
}

/// The answer of another node. Dropping it cancels the call to the end of the path.
pub struct Remote {
    reader: FrameReader<RecvStream>,
    deadline: Instant,
    first: Option<Piece>,
    notes: Vec<Note>,
    peer: NodeId,
}

impl Reply {
    /// What comes next.
    pub async fn next(&mut self) -> Outcome<Next> {
        match self {
            Reply::Local(answer, notes) => {
                if let Some(note) = notes.pop() {
                    return Ok(Next::Note(note));
                }
                let next = match answer {
                    Answer::Value(value) if value.is_empty() => None,
                    Answer::Value(value) => Some(Ok(std::mem::take(value))),
                    Answer::Stream(items) => items.next().await,
                };
                next.transpose().map(|items| items.map_or(Next::End, |items| Next::Items(items.into())))
            }
            Reply::Remote(remote) => remote.next().await,
        }
    }
}

impl Remote {
    async fn next(&mut self) -> Outcome<Next> {
        if let Some(note) = self.notes.pop() {
            return Ok(Next::Note(note));
        }
        let piece = match self.first.take() {
            Some(piece) => piece,
            None => self.piece().await?,
        };
        match piece {
            Piece::Item(bytes) => Ok(Next::Items(bytes)),
            Piece::Note(bytes) => Note::decode(&bytes).map(Next::Note),
            Piece::End => Ok(Next::End),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            Piece::Open(_) => Err(Fault::new(Code::Protocol, "an answer has no open frame")),
        }
    }

    async fn piece(&mut self) -> Outcome<Piece> {
        // The serving node ends the call at its deadline; this one is for a node that does not.
        let deadline = self.deadline + LATE;
        match tokio::time::timeout_at(deadline, self.reader.piece()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(fault)) if fault.code == Code::LinkLost => Err(Fault::new(
                Code::LinkLost,
                format!("the link to {} was lost during the call: {}", self.peer.short(), fault.what),
            )),
            Ok(Err(fault)) => Err(fault),
            Err(_) => {
                Err(Fault::new(Code::Deadline, "no answer came in time").fix("--timeout for this call"))
            }
        }
    }
}

/// How much later than its deadline an answer may still come over a link.
const LATE: std::time::Duration = std::time::Duration::from_millis(500);

impl NodeInner {
    /// Calls a function by name.
    pub async fn invoke(&self, call: &Invocation) -> Outcome<Reply> {
        let started = clock::monotonic();
        match &*self.plan(&call.name, None, None)? {
            Choice::Local => {
                let request = Request {
                    function: &call.function,
                    form: call.form,
                    arguments: &call.arguments,
                    deadline: call.deadline,
                };
                let (answer, digest) =
                    self.serve_local(&call.name, request, (&self.identity.id, Trust::Full)).await?;
                let notes = if call.trace {
                    vec![self.note(None, Some(digest), started, "served here".to_owned())]
                } else {
                    Vec::new()
                };
                Ok(Reply::Local(answer, notes))
            }
            Choice::Forward(forward) => self.invoke_remote(call, forward, started).await,
            Choice::Unroutable(why) => Err(self.no_route(&call.name, why)),
        }
    }

    /// Calls a skill of this node.
    pub async fn serve_local(
        &self,
        name: &Name,
        request: Request<'_>,
        (caller, trust): (&NodeId, Trust),
    ) -> Outcome<(Answer, crate::words::Digest)> {
        let generation = self.generation.load();
        let installed = generation::skill(&generation, name)?;
        trust::check(Operation::Call(installed.entry.expose), trust, caller)?;
        let generation::Runs::Skill(workload) = &installed.runs else {
            return Err(Fault::new(Code::Internal, format!("{name} is not a skill")));
        };
        let workload = workload.clone();
        let digest = installed.entry.component.digest;
        installed.served.fetch_add(1, Ordering::Relaxed);
        drop(generation);
        workload.call(request).await.map(|answer| (answer, digest))
    }

    async fn invoke_remote(
        &self,
        call: &Invocation,
        forward: &routing::Forward,
        started: Instant,
    ) -> Outcome<Reply> {
        let mut last = self.no_route(&call.name, "no way is open");
        for (link, to) in self.ways(&call.name, forward, None, &[]) {
            let next = link.peer;
            match self.try_way(call, &link, to).await {
                Ok(mut remote) => {
                    if call.trace {
                        let decision = format!("to {} over {}", to.short(), link.welcome.label);
                        remote.notes.push(self.note(Some(next), None, started, decision));
                    }
                    return Ok(Reply::Remote(remote));
                }
                Err(fault) => {
                    self.report_outcome(&call.name, next, to, &fault);
                    let again = fault.not_started() || call.idempotent && fault.code == Code::LinkLost;
                    last = fault;
                    if !again {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// Sends the call over one link and waits for the first word of the answer: until then it may go another way.
    async fn try_way(&self, call: &Invocation, link: &Link, to: NodeId) -> Outcome<Remote> {
        let (first, rest) = call.arguments.split_at(call.arguments.len().min(ARGUMENTS_MAX));
        let fixed = Fixed {
            id: self.call_id(),
            from: self.identity.id,
            name: call.name.clone(),
            to: Some(to),
            function: call.function.clone(),
            form: call.form.number(),
            arguments: first.to_vec(),
            more: !rest.is_empty(),
            idempotent: call.idempotent,
            created: clock::now_ms(),
        };
        let mut fixed_bytes = Vec::new();
        fixed.as_ref().encode(&mut fixed_bytes)?;
        let left = u32::try_from(clock::left_ms(call.deadline)).unwrap_or(u32::MAX);
        let hop = Hop { trace: call.trace, ..Hop::start(left) };
        let (send, recv) = open(link).await?;
        let mut writer = FrameWriter::new(send);
        writer.push_with(FrameKind::Open, |out| encode_open(out, Exchange::Invoke, &fixed_bytes, &hop))?;
        if rest.is_empty() {
            writer.finish().await?;
        } else {
            writer.last(rest).await?;
        }
        let reader = FrameReader::new(recv, ITEM_MAX);
        let mut remote =
            Remote { reader, deadline: call.deadline, first: None, notes: Vec::new(), peer: link.peer };
        loop {
            match remote.piece().await? {
                Piece::Note(bytes) => remote.notes.insert(0, Note::decode(&bytes)?),
                Piece::Error(bytes) => return Err(decode_fault(&bytes)),
                piece => {
                    remote.first = Some(piece);
                    return Ok(remote);
                }
            }
        }
    }

    /// The plan for a call: kept, or asked for. While routing cannot answer, the last plan stays in force.
    pub fn plan(&self, name: &Name, to: Option<NodeId>, from: Option<NodeId>) -> Outcome<Arc<Choice>> {
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
                Ok(Arc::new(Choice::Local))
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
        forward: &routing::Forward,
        from: Option<NodeId>,
        chain: &[NodeId],
    ) -> Vec<(Arc<Link>, NodeId)> {
        let now = clock::now_ms();
        let candidates: Vec<Candidate> = forward
            .hops
            .iter()
            .filter_map(|hop| {
                let (next, to) = (hop.next.parse().ok()?, hop.to.parse().ok()?);
                Some(Candidate { next, to, distance: hop.distance, weight: hop.weight })
            })
            .filter(|hop| Some(hop.next) != from && !chain.contains(&hop.next))
            .filter(|hop| self.claims.holds(name, &hop.to, now))
            .collect();
        let pick = match forward.pick {
            routing::Pick::Failover => Pick::Failover,
            routing::Pick::Spread => Pick::Spread,
            routing::Pick::Sticky => Pick::Sticky,
        };
        let random = self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
        let caller = from.unwrap_or(self.identity.id);
        let caller =
            u64::from_le_bytes(std::array::from_fn(|at| caller.as_bytes().get(at).copied().unwrap_or(0)));
        order(&candidates, pick, random, caller)
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
        plugin: Option<crate::words::Digest>,
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
        names.extend(self.generation.load().skills.keys().cloned());
        let fault = Fault::new(Code::NoRoute, format!("{name} is {why} ({} names known)", names.len()));
        let fault = if why.starts_with("not ") {
            fault
        } else {
            Fault::new(Code::NoRoute, format!("{name}: {why} ({} names known)", names.len()))
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

    fn call_id(&self) -> [u8; 16] {
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
