//! Orders: requests of operators that come over links, and those of this machine that go there.
//!
//! An order travels as a call of the function `control` of the target's own name, `ID@node`, so that routing policies carry it without
//! knowing what it is. The node that is named serves it itself, whatever its policies say. What holds is the operator's signature
//! on the order and the node's seal on each piece of the answer; who forwards can only drop.

use std::io::Cursor;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

use super::answer::{ITEM_MAX, Reader, Writer};
use super::links::Link;
use super::plans::Planned;
use super::{Node, NodeInner, call, control, journal};
use crate::clock;
use crate::decisions::orders::{self, Obeyed, Verified};
use crate::decisions::roles;
use crate::log::Level;
use crate::net::{FrameReader, FrameWriter};
use crate::store::state::Store;
use crate::words::envelope::{FixedRef, encode_open};
use crate::words::event::Happened;
use crate::words::frame::{Exchange, FrameKind};
use crate::words::hop::Hop;
use crate::words::objects::Role;
use crate::words::schema::Form;
use crate::words::{Code, Digest, Fault, Name, NodeId, Outcome};

/// The function of a node's own name.
const FUNCTION: &str = "control";
/// Orders that are obeyed at a time, those that follow a log included.
const PLACES: usize = 64;
/// Time for an answer after the one who asked has nothing more to say. Applying a manifest takes the longest.
const ANSWER: Duration = Duration::from_secs(900);

/// The orders that this node obeys.
pub struct Orders {
    obeyed: Mutex<Obeyed>,
    places: Semaphore,
}

impl Orders {
    /// With those that were obeyed before the last restart and could still come again.
    pub fn load(store: &Store, now: u64) -> Outcome<Self> {
        let mut obeyed = Obeyed::default();
        for (by, nonce, expires) in store.orders(now)? {
            obeyed.take(&by, nonce, expires, now)?;
        }
        Ok(Self { obeyed: Mutex::new(obeyed), places: Semaphore::new(PLACES) })
    }
}

/// Whether the name is this node's own.
pub fn is_own(node: &NodeInner, name: &Name) -> bool {
    name.is_reserved() && name.node() == Some(node.identity.id)
}

/// Takes an order that came over a link.
pub async fn taken(
    node: &Node,
    fixed: &FixedRef<'_>,
    reader: FrameReader<RecvStream>,
    writer: FrameWriter<SendStream>,
) {
    let (source, head) = reader.into_parts();
    let reader = Reader::new(Cursor::new(head).chain(source));
    let mut writer = Writer::new(writer.into_inner());
    let outcome = if fixed.function == FUNCTION {
        obey(node, fixed.arguments, reader, &mut writer).await
    } else {
        let what = format!("{} has no function but {FUNCTION}", fixed.name);
        Err(Fault::new(Code::UnknownFunction, what).fix("`midplane --on NODE status`"))
    };
    if let Err(fault) = outcome {
        // Who asked may be gone; then there is nobody to tell.
        let _ = writer.fail(&fault).await;
    }
}

/// Verifies an order, then does what it asks.
async fn obey(node: &Node, signed: &[u8], mut reader: Reader, writer: &mut Writer) -> Outcome<()> {
    let _place = node.orders.places.try_acquire().map_err(|_| {
        Fault::new(Code::Busy, format!("{} obeys {PLACES} orders already", node.identity.label))
    })?;
    let now = clock::now_ms();
    let verified = orders::verify(&node.trusted.load(), &node.identity.id, signed, now);
    let verified = verified.inspect_err(|fault| {
        // Anybody with a link can send these; what is not told is not logged either.
        if node.journal.record(Happened::ControlRefused { by: None, why: journal::why(fault) }) {
            node.log.host(Level::Warn, &format!("an order was refused: {fault}"));
        }
    })?;
    let (by, verb) = (verified.by.short(), verified.request.verb());
    // The order is an operator's: from here on the answer is this node's, and nobody else's.
    writer.sealed(&node.identity.key, verified.order.nonce);
    if let Err(fault) = may(node, &verified, now) {
        node.log.host(Level::Warn, &format!("operator {by} ({}) may not {verb}: {fault}", verified.role));
        node.journal.record(Happened::ControlRefused { by: Some(verified.by), why: journal::why(&fault) });
        return Err(fault);
    }
    node.log.host(Level::Info, &format!("operator {by} ({}) asks for {verb}", verified.role));
    let (by, role) = (Some(verified.by), Some(verified.role));
    node.journal.record(Happened::Control { by, role, verb: verb.to_string() });
    writer.accepted().await?;
    let Verified { order, request, .. } = verified;
    match order.bulk {
        Some(bulk) => {
            let item = control::item(&mut reader, "what belongs to the request").await?;
            if item.len() as u64 != bulk.length || Digest::of(&item) != bulk.digest {
                let what = "what follows the request is not what the operator signed";
                return Err(Fault::new(Code::DigestMismatch, what));
            }
            reader.only(Some(item));
        }
        None if request.names_what_follows() => {}
        None => reader.only(None),
    }
    control::answer(node, request, reader, writer).await
}

/// Whether the operator may ask for it, and has not been obeyed yet.
fn may(node: &NodeInner, verified: &Verified, now: u64) -> Outcome<()> {
    let (order, by) = (&verified.order, &verified.by);
    roles::check(verified.role, verified.request.verb(), by)?;
    node.orders.obeyed.lock().unwrap_or_else(PoisonError::into_inner).take(
        by,
        order.nonce,
        order.expires,
        now,
    )?;
    // What changes something is not obeyed again after a restart either.
    if roles::needs(verified.request.verb()) != Some(Role::View) {
        node.store.keep_order(by, &order.nonce, order.expires, now)?;
    }
    Ok(())
}

/// Carries an order of this machine to its node, and the answer back.
pub async fn forward(node: &Node, to: NodeId, mut reader: Reader, writer: &mut Writer) -> Outcome<()> {
    let order = control::item(&mut reader, "a signed order").await?;
    if to == node.identity.id {
        return Box::pin(obey(node, &order, reader, writer)).await;
    }
    let name = Name::of_node(&to);
    let unreachable = |why: &str| {
        Fault::new(Code::Unreachable, format!("node {} cannot be reached from here: {why}", to.short()))
            .fix("`midplane peers --why` shows who is linked and who is not")
    };
    let planned = node.plan(&name, Some(to), None).map_err(|fault| unreachable(&fault.what))?;
    let Planned::Forward(ways) = &*planned else {
        return Err(unreachable("no way leads there"));
    };
    let mut last = unreachable("no way is open");
    for (link, _) in node.ways(&name, ways, None, &[]).into_iter().filter(|(_, end)| *end == to) {
        match send(node, &name, to, &order, &link).await {
            Ok((send, recv)) => return relay(reader, writer, FrameWriter::new(send), recv).await,
            Err(fault) => {
                node.report_outcome(&name, link.peer, to, &fault);
                last = fault;
            }
        }
    }
    Err(last)
}

/// Opens a way. Its request half stays open for as long as somebody waits for the answer.
async fn send(
    node: &NodeInner,
    name: &Name,
    to: NodeId,
    order: &[u8],
    link: &Link,
) -> Outcome<(SendStream, RecvStream)> {
    let id = node.call_id();
    let fixed = FixedRef {
        id: &id,
        from: node.identity.id,
        name: name.as_str(),
        to: Some(to),
        function: FUNCTION,
        form: Form::Cbor.number(),
        arguments: order,
        more: true,
        idempotent: false,
        created: clock::now_ms(),
    };
    let mut bytes = Vec::new();
    fixed.encode(&mut bytes)?;
    let (send, recv) = call::open(link).await?;
    let mut writer = FrameWriter::new(send);
    // Following a log has no deadline; the one who asked goes away.
    let hop = Hop::start(u32::MAX);
    writer.push_with(FrameKind::Open, |out| encode_open(out, Exchange::Invoke, &bytes, &hop))?;
    writer.flush().await?;
    Ok((writer.into_inner(), recv))
}

/// Passes frames on in both directions until the answer ends. They are sealed, so nothing here needs to look at them.
async fn relay(
    mut reader: Reader,
    writer: &mut Writer,
    mut there: FrameWriter<SendStream>,
    back: RecvStream,
) -> Outcome<()> {
    let mut back = FrameReader::new(back, ITEM_MAX);
    let mut asking = true;
    loop {
        tokio::select! {
            biased;
            answer = back.next() => match answer? {
                Some(frame) => writer.frame(&frame).await?,
                None => return writer.finish().await,
            },
            asked = reader.frame(), if asking => {
                // A node that refuses does not read on; its answer says why.
                asking = match asked? {
                    Some(frame) => there.frame(frame.kind, &frame.body).await.is_ok(),
                    None => {
                        let _ = there.finish().await;
                        false
                    }
                };
            }
            () = tokio::time::sleep(ANSWER), if !asking => {
                return Err(Fault::new(Code::Deadline, "no answer came in time"));
            }
        }
    }
}
