//! The control socket: how the command line on the same machine talks to a node.
//!
//! A Unix socket of mode 0600 in the node's own directory, with the peer's user checked on each connection; whoever may write
//! there is the operator. Frames and exchanges are those of a link.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde::Serialize;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::Node;
use super::call::{ARGUMENTS_TOTAL, Invocation, Next};
use super::generation;
use super::generation::Runs;
use crate::clock;
use crate::log::Level;
use crate::net::frames::Pipe;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::store::directory::Directory;
use crate::wasm::inspect;
use crate::words::control::Request;
use crate::words::envelope::decode_start;
use crate::words::frame::{Exchange, FrameKind};
use crate::words::objects::BlobRef;
use crate::words::schema::Form;
use crate::words::{Code, Fault, Name, Outcome, note};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Largest item of a request: a chunk of a blob, a manifest, arguments.
pub const ITEM_MAX: usize = 1 << 20;
/// Largest report.
pub const REPORT_MAX: usize = 1 << 20;
/// Largest request.
pub const REQUEST_MAX: usize = 16 << 10;
/// Time for a request to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Blobs that one question may ask for.
const LACKS_MOST: usize = 128;
/// Lines of the past that one request may ask for.
const TAIL_MOST: u32 = 4_096;
/// Longest time for a call.
const CALL_MOST_MS: u64 = 24 * 3_600_000;

type Reader = FrameReader<Pipe<OwnedReadHalf>>;
type Writer = FrameWriter<OwnedWriteHalf>;

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
    let mut reader = FrameReader::over(read, ITEM_MAX);
    let mut writer = FrameWriter::new(write);
    let outcome = match tokio::time::timeout(PATIENCE, request(&mut reader)).await {
        Ok(Ok(request)) => answer(&node, request, reader, &mut writer).await,
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

async fn answer(node: &Node, request: Request, mut reader: Reader, writer: &mut Writer) -> Outcome<()> {
    match request {
        Request::Status => report(writer, &node.status().await?).await,
        Request::Plugins => report(writer, &node.plugin_reports()).await,
        Request::Peers => report(writer, &node.peer_reports()).await,
        Request::Routes { name } => report(writer, &node.route_reports(name.as_ref())?).await,
        Request::Logs { tail, follow, source } => tokio::select! {
            biased;
            outcome = logs(node, tail, follow, source, writer) => outcome,
            () = hung_up(&mut reader) => Ok(()),
        },
        Request::Lacks { blobs } => {
            let lacks: Vec<_> = blobs
                .iter()
                .take(LACKS_MOST)
                .filter(|blob| !node.blobs.has(blob))
                .map(|blob| blob.digest)
                .collect();
            report(writer, &lacks).await
        }
        Request::PutBlob { blob } => put_blob(node, &blob, &mut reader, writer).await,
        Request::Apply => {
            let signed = item(&mut reader, "a signed manifest").await?;
            let applied = generation::apply(node, &signed).await?;
            report(writer, &applied).await
        }
        Request::Inspect { target } => inspection(node, &target, writer).await,
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
            };
            // Whoever asked may go away, which cancels the call.
            tokio::select! {
                biased;
                outcome = invoke(node, &call, writer) => outcome,
                () = hung_up(&mut reader) => Ok(()),
            }
        }
    }
}

async fn invoke(node: &Node, call: &Invocation, writer: &mut Writer) -> Outcome<()> {
    let mut reply = node.invoke(call).await?;
    loop {
        match reply.next().await? {
            Next::Items(items) => writer.item(&items).await?,
            Next::Note(note) => writer.frame(FrameKind::Note, &note.encode()?).await?,
            Next::End => return writer.end().await,
        }
    }
}

/// Returns when the other side has closed the connection.
async fn hung_up(reader: &mut Reader) {
    while let Ok(Some(_)) = reader.next().await {}
}

async fn report<T: Serialize>(writer: &mut Writer, report: &T) -> Outcome<()> {
    writer.last(&note::write("report", report, REPORT_MAX)?).await
}

/// One item and the end of the request.
async fn item(reader: &mut Reader, what: &str) -> Outcome<bytes::Bytes> {
    match tokio::time::timeout(PATIENCE, reader.piece()).await {
        Ok(Ok(Piece::Item(bytes))) => Ok(bytes),
        Ok(Ok(_)) => Err(Fault::new(Code::Protocol, format!("{what} did not follow the request"))),
        Ok(Err(fault)) => Err(fault),
        Err(_) => Err(Fault::new(Code::Protocol, format!("{what} did not come in time"))),
    }
}

async fn put_blob(node: &Node, blob: &BlobRef, reader: &mut Reader, writer: &mut Writer) -> Outcome<()> {
    let mut put = node.blobs.put(blob)?;
    loop {
        match tokio::time::timeout(PATIENCE, reader.piece()).await {
            Ok(Ok(Piece::Item(bytes))) => put.write(&bytes)?,
            Ok(Ok(Piece::End)) => break,
            Ok(Ok(_)) => return Err(Fault::new(Code::Protocol, "a blob is items and an end")),
            Ok(Err(fault)) => return Err(fault),
            Err(_) => return Err(Fault::new(Code::Protocol, "the blob did not come in time")),
        }
    }
    put.commit()?;
    writer.end().await
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
    for line in node.log.tail(tail.min(TAIL_MOST) as usize, source.as_deref()) {
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
        Fault::new(
            Code::NotFound,
            format!("{} is neither a slot nor a name of this node", crate::words::id::clip(target)),
        )
        .fix("`midplane plugins` lists both; `midplane inspect FILE` looks at a component file")
    })?;
    let wasm = node.blobs.read(&installed.entry.component)?;
    let engine = node.engines.get(installed.engine);
    let component =
        node.cache.load(&node.engines, installed.engine, installed.entry.component.digest, &wasm).await?;
    let kind = match &installed.runs {
        Runs::Skill(_) | Runs::Policy(_) => installed.entry.kind,
    };
    let inspection =
        inspect::component(engine, installed.engine, &component, &wasm, kind, &installed.entry.grants);
    report(writer, &inspection).await
}
