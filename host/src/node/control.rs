//! The control socket: how the command line on the same machine talks to a node.
//!
//! A Unix socket of mode 0600 in the node's own directory, with the peer's user checked on each connection; whoever may write
//! there is the operator. Frames and exchanges are those of a link.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

pub use super::answer::ITEM_MAX;
use super::answer::{Reader, Writer};
use super::blobs;
use super::call::{ARGUMENTS_TOTAL, Invocation};
use super::datasets;
use super::generation;
use super::reply::{Next, Reply};
use super::{Node, history, journal, mesh, orders, probation, recordings, roots, swap};
use crate::clock;
use crate::decisions::rights::Rights;
use crate::decisions::roles;
use crate::log::{HOST, Level};
use crate::net::Piece;
use crate::store::directory::Directory;
use crate::wasm::inspect;
use crate::words::control::{Applied, Request};
use crate::words::envelope::decode_start;
use crate::words::event::Happened;
use crate::words::frame::Exchange;
use crate::words::id::clip;
use crate::words::objects::root::Roots;
use crate::words::objects::{Plugin, Role};
use crate::words::schema::Form;
use crate::words::{Code, Fault, Name, Outcome, Verb, note};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Largest report.
pub const REPORT_MAX: usize = 1 << 20;
/// Largest request.
pub const REQUEST_MAX: usize = crate::decisions::orders::REQUEST_MAX;
/// Time for a request to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Blobs that one question may ask for.
const LACKS_MOST: usize = 128;
/// Lines of the past that one request may ask for.
const TAIL_MOST: u32 = 4_096;
/// Longest time for a call.
const CALL_MOST_MS: u64 = 24 * 3_600_000;

/// Binds the socket. The directory's lock is held, so a socket that is there belongs to nobody.
pub fn bind(directory: &Directory) -> Outcome<UnixListener> {
    let path = directory.socket()?;
    let fail = |error: std::io::Error| Fault::io(format!("cannot listen on {}", path.display()), &error);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(fail)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

/// Answers requests for as long as the node runs.
pub async fn serve(node: Node, listener: UnixListener) {
    let mut connections = JoinSet::new();
    let mut stopping = node.stopping.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(node.clone(), stream));
                }
                Err(error) => {
                    node.log.host(Level::Error, &format!("control socket: {error}"));
                    // Out of descriptors, most likely; accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn stopped(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn connection(node: Node, stream: UnixStream) {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
        _ => return node.log.host(Level::Warn, "control socket: another user was refused"),
    }
    let (read, write) = stream.into_split();
    let mut reader = Reader::new(read);
    let mut writer = Writer::new(write);
    let outcome = match tokio::time::timeout(PATIENCE, request(&mut reader)).await {
        Ok(Ok(request)) => {
            let verb = request.verb();
            let changes = roles::needs(verb) == Some(Role::Deploy) && verb != Verb::Lacks;
            if changes || verb == Verb::Rollback {
                node.journal.record(Happened::Control { by: None, role: None, verb: verb.to_string() });
            }
            answer(&node, request, reader, &mut writer).await
        }
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::new(Code::Protocol, "no request came in time")),
    };
    if let Err(fault) = outcome {
        // Who asked may be gone; then there is nobody to tell.
        let _ = writer.fail(&fault).await;
    }
}

async fn request(reader: &mut Reader) -> Outcome<Request> {
    let open = reader.open().await?;
    let (exchange, details) = decode_start(&open)?;
    if exchange != Exchange::Control {
        return Err(Fault::new(
            Code::Protocol,
            format!("the control socket does not carry {}", exchange.as_str()),
        ));
    }
    note::read("request", details, REQUEST_MAX)
}

/// Does what is asked, by whoever may ask it, and writes the answer but for its failure.
pub async fn answer(node: &Node, request: Request, mut reader: Reader, writer: &mut Writer) -> Outcome<()> {
    match request {
        Request::Status => report(writer, &node.status()?).await,
        Request::Plugins => report(writer, &node.plugin_reports()).await,
        Request::Peers => report(writer, &node.peer_reports()).await,
        Request::Routes { name } => report(writer, &node.route_reports(name.as_ref())?).await,
        Request::Logs { tail, follow, source } => tokio::select! {
            biased;
            outcome = logs(node, tail, follow, source, writer) => outcome,
            () = reader.hung_up() => Ok(()),
        },
        Request::Events { after, tail, follow } => tokio::select! {
            biased;
            outcome = node.journal.tell(after, tail, follow, writer) => outcome,
            () = reader.hung_up() => Ok(()),
        },
        Request::Lacks { blobs } => {
            let lacks: Vec<_> = blobs
                .iter()
                .take(LACKS_MOST)
                // Whoever asks will come back for the others.
                .filter(|blob| !blobs::has_for_a_while(node, blob))
                .map(|blob| blob.digest)
                .collect();
            report(writer, &lacks).await
        }
        Request::PutBlob { blob } => {
            let kept = blobs::take(node, blob, &mut reader).await?;
            blobs::keep_for_a_while(node, &kept.blob.digest);
            writer.end().await
        }
        Request::Blob(request) => blobs::answer(node, request, &mut reader, writer).await,
        Request::Mesh => mesh::answer(node, writer).await,
        Request::Apply { spread } => {
            let signed = item(&mut reader, "a signed manifest").await?;
            report(writer, &apply(node, &signed, spread).await?).await
        }
        Request::History => report(writer, &history::reports(node)?).await,
        Request::Manifest { version } => report(writer, &history::manifest(node, version)?).await,
        Request::Rollback { version } => report(writer, &rollback(node, version).await?).await,
        Request::Confirm { version, swap } => {
            report(writer, &probation::confirm(node, version, swap).await?).await
        }
        Request::Swap(request) => Box::pin(swap::answer(node, request, &mut reader, writer)).await,
        Request::Record { slot, time_ms } => {
            recordings::answer(node, &slot, time_ms, &mut reader, writer).await
        }
        Request::Dataset(request) => datasets::answer(node, request, &mut reader, writer).await,
        Request::Inspect { target } => inspection(node, &target, writer).await,
        Request::UpdateRoot => {
            let chain = item(&mut reader, "a chain of roots").await?;
            let chain: Roots = note::read("chain of roots", &chain, Roots::BYTES_MAX)?;
            let chain: Vec<&[u8]> = chain.roots.iter().map(|root| root.as_slice()).collect();
            report(writer, &roots::update(node, &chain).await?).await
        }
        Request::Find { node: wanted } => report(writer, &node.find(&wanted)?).await,
        Request::Forward { to } => orders::forward(node, to, reader, writer).await,
        Request::Call { name, function, form, timeout_ms, idempotent, trace } => {
            let arguments = item(&mut reader, "arguments").await?.to_vec();
            if arguments.len() > ARGUMENTS_TOTAL {
                return Err(Fault::new(
                    Code::TooLarge,
                    format!("arguments of {} bytes; the limit is {ARGUMENTS_TOTAL}", arguments.len()),
                ));
            }
            let call = Invocation {
                name,
                function,
                form: Form::try_from(form)?,
                arguments,
                deadline: clock::deadline_in(timeout_ms.min(CALL_MOST_MS)),
                idempotent,
                trace,
                rights: Rights::own(node.identity.id),
            };
            // Whoever asked may go away, which cancels the call.
            tokio::select! {
                biased;
                outcome = invoke(node, &call, writer) => outcome,
                () = reader.hung_up() => Ok(()),
            }
        }
    }
}

/// Applies a manifest, and says in the events what became of it.
async fn apply(node: &Node, signed: &[u8], spread: bool) -> Outcome<Applied> {
    let applied = generation::apply(node, signed, spread).await.inspect_err(|fault| refused(node, fault))?;
    if !applied.already {
        let (from, to, signers) = (applied.from, applied.to, applied.signers.clone());
        node.journal.record(Happened::GenerationApplied { from, to, signers, over: None });
    }
    Ok(applied)
}

/// The same for the way back.
async fn rollback(node: &Node, version: Option<u64>) -> Outcome<Applied> {
    let applied = history::rollback(node, version).await.inspect_err(|fault| refused(node, fault))?;
    let (from, to, instead_of) = (applied.from, applied.to, applied.instead_of);
    node.journal.record(Happened::GenerationRolledBack { from, to, instead_of });
    Ok(applied)
}

fn refused(node: &Node, fault: &Fault) {
    node.journal.record(Happened::GenerationRefused { why: journal::why(fault) });
}

async fn invoke(node: &Node, call: &Invocation, writer: &mut Writer) -> Outcome<()> {
    let mut reply = node.invoke(call).await?;
    let local = matches!(reply, Reply::Local(..));
    if let Some(plugin) = reply.served_by().filter(|_| !call.trace) {
        writer.note(&note::served(&plugin)).await?;
    }
    loop {
        let next = reply.next().await.inspect_err(|fault| {
            if local {
                node.note_trap(fault);
            }
        });
        match next? {
            Next::Items(items) => writer.item(&items).await?,
            Next::Note(note) => writer.note(&note.encode()?).await?,
            Next::End => return writer.end().await,
        }
    }
}

pub(super) async fn report<T: Serialize>(writer: &mut Writer, report: &T) -> Outcome<()> {
    writer.last(&note::write("report", report, REPORT_MAX)?).await
}

/// One item and the end of the request.
pub(super) async fn item(reader: &mut Reader, what: &str) -> Outcome<bytes::Bytes> {
    match tokio::time::timeout(PATIENCE, reader.piece()).await {
        Ok(Ok(Piece::Item(bytes))) => Ok(bytes),
        Ok(Ok(_)) => Err(Fault::new(Code::Protocol, format!("{what} did not follow the request"))),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::new(Code::Protocol, format!("{what} did not come in time"))),
    }
}

async fn logs(
    node: &Node,
    tail: u32,
    follow: bool,
    source: Option<String>,
    writer: &mut Writer,
) -> Outcome<()> {
    use tokio::sync::broadcast::error::RecvError;
    // Subscribed before the past is read, so that no line falls between the two; one may come twice.
    let mut lines = node.log.follow();
    let past = node.log.tail(tail.min(TAIL_MOST) as usize, source.as_deref());
    let runs = |slot: &str| slot == HOST || node.generation.load().plugins.contains_key(slot);
    if let Some(slot) = source.as_deref().filter(|slot| past.is_empty() && !follow && !runs(slot)) {
        let what = format!("nothing was said by {}, which is no slot of this node", clip(slot));
        return Err(Fault::new(Code::NotFound, what).fix("`midplane plugins` lists the slots"));
    }
    for line in past {
        writer.item(&note::write("line", &line, REPORT_MAX)?).await?;
    }
    if !follow {
        return writer.end().await;
    }
    loop {
        match lines.recv().await {
            Ok(line) if source.as_ref().is_none_or(|source| *source == line.source) => {
                writer.item(&note::write("line", &line, REPORT_MAX)?).await?;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                node.log.host(Level::Warn, &format!("a follower of the log lost {lost} lines"))
            }
            Err(RecvError::Closed) => break,
        }
    }
    writer.end().await
}

async fn inspection(node: &Node, target: &str, writer: &mut Writer) -> Outcome<()> {
    let generation = node.generation.load_full();
    let by_name = target.parse::<Name>().ok().and_then(|name| generation.skills.get(&name).cloned());
    let installed = by_name.or_else(|| generation.plugins.get(target).cloned()).ok_or_else(|| {
        Fault::new(Code::NotFound, format!("{} is neither a slot nor a name of this node", clip(target)))
            .fix("`midplane plugins` lists both; `midplane inspect FILE` looks at a component file")
    })?;
    let wasm = node.blobs.read(&installed.entry.component)?;
    let Plugin { kind, grants, bindings, .. } = &installed.entry;
    let inspection = inspect::component(&installed.code, &wasm, *kind, grants, bindings);
    report(writer, &inspection).await
}
