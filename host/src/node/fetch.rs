//! Blobs between nodes: asked for by digest, verified before they are kept.

use std::time::Duration;

use quinn::SendStream;

use super::call;
use super::links::Link;
use super::{Node, NodeInner};
use crate::decisions::trust::{self, Operation};
use crate::log::Level;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::words::envelope::{decode_start, encode_start};
use crate::words::frame::{BODY_MAX, Exchange};
use crate::words::note::{self, decode_fault};
use crate::words::objects::BlobRef;
use crate::words::{Code, Fault, NodeId, Outcome, Trust};

/// A holder that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The request: a digest and a length.
const REQUEST_MAX: usize = 256;

/// Fetches a blob from whichever linked peer has it.
pub async fn blob(node: &Node, wanted: &BlobRef) -> Outcome<()> {
    let links = node.links.all();
    let mut last = None;
    for link in links.values().filter(|link| link.trust >= Operation::FetchBlob.needs()) {
        match from(node, link, wanted).await {
            Ok(()) => return Ok(()),
            Err(fault) => {
                let text =
                    format!("{} did not give blob {}: {fault}", link.welcome.label, wanted.digest.short());
                node.log.host(Level::Info, &text);
                last = Some(fault);
            }
        }
    }
    let asked = links.len();
    let why = last.map(|fault| format!("; the last one said {fault}")).unwrap_or_default();
    let what =
        format!("blob {} is not here and {asked} linked peers did not give it{why}", wanted.digest.short());
    Err(Fault::new(Code::BlobMissing, what).fix("apply the manifest from where its components are"))
}

async fn from(node: &Node, link: &Link, wanted: &BlobRef) -> Outcome<()> {
    let request = note::write("blob request", wanted, REQUEST_MAX)?;
    let (send, recv) = call::open(link).await?;
    let mut writer = FrameWriter::new(send);
    writer.open(|out| encode_start(out, Exchange::Blob, &request), None).await?;
    writer.finish().await?;
    let mut reader = FrameReader::new(recv, BODY_MAX);
    let mut put = node.blobs.put(wanted)?;
    loop {
        let piece = tokio::time::timeout(PATIENCE, reader.piece()).await.unwrap_or_else(|_| {
            Err(Fault::new(Code::Unreachable, format!("nothing came for {} s", PATIENCE.as_secs())))
        })?;
        match piece {
            Piece::Item(bytes) => put.write(&bytes)?,
            Piece::End => return put.commit(),
            Piece::Error(bytes) => return Err(decode_fault(&bytes)),
            _ => return Err(Fault::new(Code::Protocol, "a blob is items and an end")),
        }
    }
}

/// Gives a blob to a peer.
pub async fn serve(
    node: &NodeInner,
    trust: Trust,
    peer: NodeId,
    open: &[u8],
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    trust::check(Operation::FetchBlob, trust, &peer)?;
    let (_, details) = decode_start(open)?;
    let wanted: BlobRef = note::read("blob request", details, REQUEST_MAX)?;
    if !node.blobs.has(&wanted) {
        return Err(Fault::new(Code::BlobMissing, format!("blob {} is not here", wanted.digest.short())));
    }
    let bytes = node.blobs.read(&wanted)?;
    for chunk in bytes.chunks(BODY_MAX) {
        writer.item(chunk).await?;
    }
    writer.end().await
}
