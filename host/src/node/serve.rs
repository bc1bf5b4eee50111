//! What linked peers ask this node for: calls, served or forwarded, and blobs.

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;

use super::call::{self, ARGUMENTS_TOTAL, ITEM_MAX};
use super::channel;
use super::give;
use super::links::{Link, LinkEvent};
use super::mesh;
use super::orders;
use super::pass;
use super::plans::{Planned, Ways};
use super::spread;
use super::{Node, NodeInner};
use crate::clock;
use crate::decisions::rights::Rights;
use crate::decisions::trust::{self, Operation};
use crate::log::Level;
use crate::net::{Cause, FrameReader, FrameWriter, Piece, errors, splice_after};
use crate::wasm::workload::{Answer, Request};
use crate::words::envelope::{FixedRef, OpenRef, decode_open, encode_open, exchange_of};
use crate::words::frame::{Exchange, FrameKind};
use crate::words::hop::Hop;
use crate::words::note;
use crate::words::schema::Form;
use crate::words::{Code, Fault, Name, NodeId, Outcome, Trust};

/// Serves one admitted peer until the connection ends. QUIC bounds how many streams it may open at a time.
pub async fn connection(node: Node, connection: Connection, number: u64, peer: NodeId) {
    let mut exchanges = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = exchanges.join_next(), if !exchanges.is_empty() => {}
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) => {
                    // Boxed: tokio moves a task's future and what is left of it half a dozen times.
                    exchanges.spawn(Box::pin(exchange(node.clone(), peer, send, recv)));
                }
                Err(_) => return,
            },
            stream = connection.accept_uni() => match stream {
                Ok(recv) => {
                    exchanges.spawn(one_way(node.clone(), peer, number, recv));
                }
                Err(_) => return,
            },
        }
    }
}

/// The trust that the peer has now; it may change while the connection stays.
pub(super) fn trust_of(node: &NodeInner, peer: &NodeId) -> Trust {
    node.links.known().get(peer).map_or(Trust::Unknown, |known| known.trust)
}

async fn one_way(node: Node, peer: NodeId, connection: u64, recv: RecvStream) {
    if let Err(fault) = trust::check(Operation::Channel, trust_of(&node, &peer), &peer) {
        return node.log.host(Level::Warn, &fault.to_string());
    }
    match channel::accept(recv).await {
        Ok(stream) => {
            let _ = node.events.send(LinkEvent::Channel(peer, connection, Box::new(stream))).await;
        }
        Err(fault) => node.log.host(Level::Warn, &format!("{}: {fault}", peer.short())),
    }
}

async fn exchange(node: Node, peer: NodeId, send: SendStream, recv: RecvStream) {
    let mut reader = FrameReader::new(recv, ITEM_MAX);
    let mut writer = FrameWriter::new(send);
    let outcome = match reader.open().await {
        Ok(open) => match exchange_of(&open) {
            Ok(Exchange::Invoke) => return invoke(&node, peer, open, reader, writer).await,
            Ok(Exchange::Blob) => {
                Box::pin(give::serve(&node, trust_of(&node, &peer), peer, &open, &mut writer)).await
            }
            Ok(Exchange::Manifest) => {
                Box::pin(spread::serve(&node, trust_of(&node, &peer), peer, &open, &mut writer)).await
            }
            Ok(other) => {
                Err(Fault::new(Code::Protocol, format!("a link does not carry {} like this", other.as_str())))
            }
            Err(fault) => Err(fault),
        },
        Err(fault) => Err(fault),
    };
    if let Err(fault) = outcome {
        let _ = writer.fail(&fault).await;
    }
}

async fn invoke(
    node: &Node,
    peer: NodeId,
    body: Bytes,
    reader: FrameReader<RecvStream>,
    mut writer: FrameWriter<SendStream>,
) {
    let started = clock::monotonic();
    let routed = route(node, peer, &body);
    let routed = match routed {
        Ok(routed) => routed,
        Err(fault) => {
            let _ = writer.fail(&fault).await;
            return;
        }
    };
    match routed {
        // Boxed, so that the task of a call is small.
        Routed::Order(fixed) => Box::pin(orders::taken(node, &fixed, reader, writer)).await,
        Routed::Runs(fixed, trust) => Box::pin(mesh::called(node, trust, peer, &fixed, writer)).await,
        Routed::Blob(fixed, trust) => Box::pin(give::called(node, trust, peer, &fixed, writer)).await,
        Routed::Here(open, fixed, name, trust) => {
            let deadline = clock::deadline_in(u64::from(open.hop.time_left_ms));
            let rights = Rights { from: peer, trust, depth: open.hop.depth };
            if let Err(fault) = here(node, &open, &fixed, &name, rights, deadline, reader, &mut writer).await
            {
                let _ = writer.fail(&fault).await;
            }
        }
        Routed::On(open, fixed, name, planned) => {
            let Planned::Forward(ways) = &*planned else { return };
            if pass::asks(&name, &fixed) {
                let question = pass::Question { peer, open: &open, fixed: &fixed, name: &name, started };
                return Box::pin(pass::on(node, &question, ways, writer)).await;
            }
            // Boxed, so that the task of a call that is served here is small.
            Box::pin(on(node, peer, &open, &fixed, &name, ways, started, reader, writer)).await;
        }
    }
}

enum Routed<'a> {
    Order(FixedRef<'a>),
    Blob(FixedRef<'a>, Trust),
    Runs(FixedRef<'a>, Trust),
    Here(OpenRef<'a>, FixedRef<'a>, Name, Trust),
    On(OpenRef<'a>, FixedRef<'a>, Name, std::sync::Arc<Planned>),
}

/// Decides what becomes of a call: the only place where a peer's call is let in.
fn route<'a>(node: &NodeInner, peer: NodeId, body: &'a [u8]) -> Outcome<Routed<'a>> {
    let open = decode_open(body)?;
    let fixed = FixedRef::decode(open.fixed)?;
    let name = fixed.name()?;
    let trust = open.hop.trust.min(trust_of(node, &peer));
    trust::check(Operation::Forward, trust, &peer)?;
    // Its own name is the node's, whatever its policies say: they must not be able to lock the operators out.
    if orders::is_own(node, &name) {
        return Ok(match fixed.function {
            give::FUNCTION => Routed::Blob(fixed, trust),
            mesh::FUNCTION => Routed::Runs(fixed, trust),
            _ => Routed::Order(fixed),
        });
    }
    let planned = node.plan(&name, fixed.to, Some(peer))?;
    match &*planned {
        Planned::Local => Ok(Routed::Here(open, fixed, name, trust)),
        Planned::Forward(_) => Ok(Routed::On(open, fixed, name, planned)),
        Planned::Unroutable(why) => Err(node.no_route(&name, why)),
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one call, each used once")]
async fn here(
    node: &NodeInner,
    open: &OpenRef<'_>,
    fixed: &FixedRef<'_>,
    name: &Name,
    rights: Rights,
    deadline: clock::Instant,
    mut reader: FrameReader<RecvStream>,
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    let started = clock::monotonic();
    let form = Form::try_from(fixed.form)?;
    let rest;
    let arguments = if fixed.more {
        rest = gather(fixed.arguments, &mut reader).await?;
        &rest[..]
    } else {
        reader.settle();
        fixed.arguments
    };
    let request = Request { function: fixed.function, form, arguments, deadline, rights };
    // Not even made before it is polled: most calls are done by then.
    let stopped = async { writer.inner().stopped().await };
    let called = node.serve_local(name, request);
    let (answer, digest) = tokio::select! {
        biased;
        answer = called => answer?,
        // The caller does not want the answer any more; dropping the call ends the guest.
        _ = stopped => return Err(Fault::new(Code::Cancelled, "the caller went away")),
    };
    if open.hop.trace {
        let note = node.note(None, Some(digest), started, format!("served {name} {}", fixed.function));
        writer.push(FrameKind::Note, &note.encode()?)?;
    } else {
        writer.push(FrameKind::Note, &note::served(&digest))?;
    }
    match answer {
        Answer::Value(value) if value.is_empty() => writer.end().await,
        Answer::Value(value) => writer.last(&value).await,
        Answer::Stream(mut items) => loop {
            let stopped = async { writer.inner().stopped().await };
            let next = tokio::select! {
                biased;
                next = items.next() => next,
                _ = stopped => return Err(Fault::new(Code::Cancelled, "the caller went away")),
            };
            match next {
                Some(Ok(batch)) => writer.item(&batch).await?,
                Some(Err(fault)) => {
                    node.note_trap(&fault);
                    return Err(fault);
                }
                None => return writer.end().await,
            }
        },
    }
}

/// Collects arguments that do not fit into the open frame.
async fn gather(first: &[u8], reader: &mut FrameReader<RecvStream>) -> Outcome<Vec<u8>> {
    let mut arguments = first.to_vec();
    loop {
        match reader.piece().await? {
            Piece::Item(bytes) => {
                if arguments.len() + bytes.len() > ARGUMENTS_TOTAL {
                    let what = format!("arguments of more than {ARGUMENTS_TOTAL} bytes");
                    return Err(
                        Fault::new(Code::TooLarge, what).fix("pass large data as a blob or in several calls")
                    );
                }
                arguments.extend_from_slice(&bytes);
            }
            Piece::End => return Ok(arguments),
            _ => return Err(Fault::new(Code::Protocol, "arguments are items and an end")),
        }
    }
}

/// Passes a call on, byte for byte, and its answer back.
#[expect(clippy::too_many_arguments, reason = "the parts of one call, each used once")]
async fn on(
    node: &NodeInner,
    peer: NodeId,
    open: &OpenRef<'_>,
    fixed: &FixedRef<'_>,
    name: &Name,
    ways: &Ways,
    started: clock::Instant,
    reader: FrameReader<RecvStream>,
    mut writer: FrameWriter<SendStream>,
) {
    let spent = u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX);
    let hop = match open.hop.forward(peer, trust_of(node, &peer), spent) {
        Ok(hop) => hop,
        Err(fault) => return drop(writer.fail(&fault).await),
    };
    let mut last = None;
    for (link, to) in node.ways(name, ways, Some(peer), &hop.chain) {
        match send_on(open.fixed, &hop, fixed.more, &link).await {
            Ok((send, recv)) => {
                if open.hop.trace {
                    let decision = format!("to {} over {}", to.short(), link.welcome.label);
                    let note = node.note(Some(link.peer), None, started, decision);
                    let _ = note.encode().and_then(|note| writer.push(FrameKind::Note, &note));
                    if writer.flush().await.is_err() {
                        return;
                    }
                }
                return relay(node, &link, name, to, (send, recv), reader, writer).await;
            }
            Err(fault) => {
                node.report_outcome(name, link.peer, to, &fault);
                last = Some(fault);
            }
        }
    }
    let last = last.unwrap_or_else(|| node.no_route(name, "no way is open"));
    let _ = writer.fail(&last).await;
}

/// Opens the next stream and repeats the call on it. Nothing has been sent before the stream is open, so another way may be tried.
pub(super) async fn send_on(
    fixed: &[u8],
    hop: &Hop,
    more: bool,
    link: &Link,
) -> Outcome<(SendStream, RecvStream)> {
    let (send, recv) = call::open(link).await?;
    let mut writer = FrameWriter::new(send);
    writer.push_with(FrameKind::Open, |out| encode_open(out, Exchange::Invoke, fixed, hop))?;
    if more {
        writer.flush().await?;
    } else {
        writer.finish().await?;
    }
    Ok((writer.into_inner(), recv))
}

async fn relay(
    node: &NodeInner,
    link: &Link,
    name: &Name,
    to: NodeId,
    (send, recv): (SendStream, RecvStream),
    reader: FrameReader<RecvStream>,
    writer: FrameWriter<SendStream>,
) {
    let (source, head) = reader.into_parts();
    let back = splice_after(Bytes::new(), recv, writer.into_inner());
    let forth = splice_after(head, source, send);
    let mut back = std::pin::pin!(back);
    let mut forth = std::pin::pin!(forth);
    let mut request_done = false;
    let end = loop {
        tokio::select! {
            biased;
            end = &mut back => break end,
            _ = &mut forth, if !request_done => request_done = true,
        }
    };
    if let Cause::SourceLost(fault, sink) = end.cause {
        let what = format!("{} lost the link to {} during the call", node.identity.label, link.welcome.label);
        let told = Fault::new(Code::LinkLost, format!("{what}: {}", fault.what));
        node.report_outcome(name, link.peer, to, &told);
        if let Some(sink) = sink.filter(|_| !end.ended) {
            let _ = FrameWriter::new(sink).fail(&told).await;
        }
    }
}

/// The fault of a connection that ended.
pub fn lost(error: &quinn::ConnectionError) -> Fault {
    errors::link_fault(error)
}
