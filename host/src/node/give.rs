//! Blobs for peers: verified before they are sent, and sent with their proof.

use std::time::Duration;

use quinn::SendStream;

use super::{NodeInner, blobs};
use crate::decisions::trust::{self, Operation};
use crate::net::FrameWriter;
use crate::words::blob::{Ask, Offer};
use crate::words::envelope::{FixedRef, decode_start};
use crate::words::{Code, Fault, NodeId, Outcome, Trust, note};

/// The function of a node's own name that gives a range of a blob; its arguments are an [`Ask`].
pub(super) const FUNCTION: &str = "blob";
/// A request.
pub(super) const ASK_MAX: usize = 256;
/// A peer that takes no piece for so long has stopped.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Below calls, which have 0: a blob takes what they leave.
pub(super) const PRIORITY: i32 = -10;

/// Gives a range of a blob to a peer that asks over the link.
pub async fn serve(
    node: &NodeInner,
    trust: Trust,
    peer: NodeId,
    open: &[u8],
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    let (_, details) = decode_start(open)?;
    give(node, trust, peer, details, writer).await
}

/// Gives a range of a blob to a node that asks by a call of this node's own name.
pub async fn called(
    node: &NodeInner,
    trust: Trust,
    peer: NodeId,
    fixed: &FixedRef<'_>,
    mut writer: FrameWriter<SendStream>,
) {
    if let Err(fault) = give(node, trust, peer, fixed.arguments, &mut writer).await {
        // Who asked may be gone; then there is nobody to tell.
        let _ = writer.fail(&fault).await;
    }
}

/// From `trusted` on a node may have any blob that is here; what it must know is the digest. Over several links the trust is the
/// least of the way.
async fn give(
    node: &NodeInner,
    trust: Trust,
    peer: NodeId,
    request: &[u8],
    writer: &mut FrameWriter<SendStream>,
) -> Outcome<()> {
    trust::check(Operation::FetchBlob, trust, &peer)?;
    let ask: Ask = note::read("blob request", request, ASK_MAX)?;
    let missing = || Fault::new(Code::BlobMissing, format!("blob {} is not here", ask.digest.short()));
    let length = node.blobs.length(&ask.digest).ok_or_else(missing)?;
    if ask.length.is_some_and(|wanted| wanted != length) {
        return Err(missing());
    }
    let offer = note::write("offer", &Offer { length }, ASK_MAX)?;
    if ask.end <= ask.start {
        return writer.last(&offer).await;
    }
    let _place = node.transfers.place_to_give()?;
    let _ = writer.inner().set_priority(PRIORITY);
    let reading = node.blobs.open_range(&ask.digest, ask.start..ask.end)?;
    writer.item(&offer).await?;
    let mut pieces = blobs::pieces(reading, true);
    while let Some(piece) = pieces.recv().await {
        let piece = piece?;
        tokio::time::timeout(PATIENCE, writer.item(&piece)).await.unwrap_or_else(|_| {
            let what = format!("{} took nothing for {} s", peer.short(), PATIENCE.as_secs());
            Err(Fault::new(Code::Unreachable, what))
        })?;
    }
    writer.end().await
}
