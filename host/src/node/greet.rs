//! From a connection to a greeting: who is there, of which mesh, with which membership.
//!
//! Both ends say hello, then both show their membership. Whether there will be a link is decided by [`super::links`].

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use serde_bytes::ByteBuf;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::links::{Greeted, LinkEvent};
use super::{Node, NodeInner, journal};
use crate::clock::{self, Instant};
use crate::decisions::hello::judge;
use crate::decisions::sparing::Sparing;
use crate::log::Level;
use crate::net::endpoint;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::words::envelope::{decode_start, encode_start};
use crate::words::event::Happened;
use crate::words::frame::Exchange;
use crate::words::hello::{GREETING_MAX, Greeting, Hello};
use crate::words::{Code, Fault, NodeId, Outcome};

/// Time for hello and membership, both ways.
const GREETING: Duration = Duration::from_secs(10);
/// Connections that may be greeting at the same time.
const GREETINGS_MOST: usize = 256;

/// Takes in those who dial, for as long as the node runs.
pub async fn accept(node: Node) {
    let mut greetings = JoinSet::new();
    let mut refusals = Refusals { since: clock::monotonic(), sparing: Sparing::default() };
    loop {
        tokio::select! {
            Some(greeted) = greetings.join_next(), if !greetings.is_empty() => {
                if let Ok((address, Err(fault))) = greeted {
                    refusals.tell(&node, address, &fault);
                }
            }
            () = refusals.wait() => refusals.sum_up(&node),
            arrival = node.endpoint.accept(), if greetings.len() < GREETINGS_MOST => {
                let Some(arrival) = arrival else { return };
                let node = node.clone();
                greetings.spawn(async move {
                    let address = arrival.remote_address();
                    let outcome = match arrival.finish().await {
                        Ok((connection, peer)) => greet(&node, connection, peer, false).await,
                        Err(fault) => Err(fault),
                    };
                    (address, outcome)
                });
            }
        }
    }
}

/// Those who did not get in. Anybody can knock as often as they like, so only a few are told one by one.
struct Refusals {
    since: Instant,
    sparing: Sparing,
}

impl Refusals {
    fn tell(&mut self, node: &NodeInner, address: SocketAddr, fault: &Fault) {
        self.sum_up(node);
        if self.sparing.say(self.now()) {
            node.log.host(Level::Info, &format!("{address} did not get in: {fault}"));
            let (address, why) = (address.to_string(), journal::why(fault));
            node.journal.record(Happened::PeerRefused { peer: None, address, why });
        }
    }

    fn sum_up(&mut self, node: &NodeInner) {
        if let Some(count) = self.sparing.over(self.now()) {
            node.log.host(Level::Info, &format!("{count} more did not get in lately"));
        }
    }

    /// Waits until there is something to sum up.
    async fn wait(&self) {
        match self.sparing.wait(self.now()) {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> Duration {
        clock::monotonic().saturating_duration_since(self.since)
    }
}

/// Greets the other end and hands the connection to the link loop. Returns when the loop has decided.
pub async fn greet(node: &Node, connection: Connection, peer: NodeId, dialled: bool) -> Outcome<()> {
    let exchange = async {
        let (mut writer, mut reader) = streams(node, &connection, dialled).await?;
        let own = hello(node);
        let theirs = match next(&mut reader).await? {
            Greeting::Hello(hello) => hello,
            Greeting::Refuse(fault) => return Err(fault),
            _ => return Err(unexpected()),
        };
        if let Err(fault) = judge(&own, node.identity.id, &theirs, peer) {
            // The other end is told why before the connection goes.
            let _ = say(&mut writer, &Greeting::Refuse(fault.clone())).await;
            return Err(fault);
        }
        let membership = Some(ByteBuf::from(node.identity.membership_signed.clone()));
        say(&mut writer, &Greeting::Show { membership }).await?;
        let shown = match next(&mut reader).await? {
            Greeting::Show { membership } => membership.map(ByteBuf::into_vec),
            Greeting::Refuse(fault) => return Err(fault),
            _ => return Err(unexpected()),
        };
        Ok((writer, reader, theirs, shown))
    };
    let greeted = tokio::time::timeout(GREETING, exchange).await.unwrap_or_else(|_| {
        Err(Fault::new(
            Code::Unreachable,
            format!("{} did not say hello in {} s", peer.short(), GREETING.as_secs()),
        ))
    });
    let (writer, reader, hello, membership) = match greeted {
        Ok(parts) => parts,
        Err(fault) => {
            endpoint::close(&connection, fault.code, &fault.what);
            return Err(fault);
        }
    };
    let (done, decided) = oneshot::channel();
    let greeted = Greeted { connection, peer, hello, membership, dialled, writer, reader, done };
    if node.events.send(LinkEvent::Greeted(Box::new(greeted))).await.is_err() {
        return Err(Fault::new(Code::NotRunning, "the node is stopping"));
    }
    decided.await.unwrap_or_else(|_| Err(Fault::new(Code::NotRunning, "the node is stopping")))
}

/// The hello stream: opened by the dialler, with its hello in it; answered with the other's.
async fn streams(
    node: &NodeInner,
    connection: &Connection,
    dialled: bool,
) -> Outcome<(FrameWriter<SendStream>, FrameReader<RecvStream>)> {
    let lost = |error: quinn::ConnectionError| crate::net::errors::link_fault(&error);
    let own = Greeting::Hello(hello(node)).encode()?;
    if dialled {
        let (send, recv) = connection.open_bi().await.map_err(lost)?;
        let mut writer = FrameWriter::new(send);
        writer.open(|out| encode_start(out, Exchange::Hello, &[]), Some(&own)).await?;
        return Ok((writer, FrameReader::new(recv, GREETING_MAX)));
    }
    let (send, recv) = connection.accept_bi().await.map_err(lost)?;
    let mut reader = FrameReader::new(recv, GREETING_MAX);
    let open = reader.open().await?;
    let (exchange, _) = decode_start(&open)?;
    if exchange != Exchange::Hello {
        let what = format!("the first stream is for hello, not for {}", exchange.as_str());
        return Err(Fault::new(Code::Protocol, what));
    }
    let mut writer = FrameWriter::new(send);
    writer.item(&own).await?;
    Ok((writer, reader))
}

fn hello(node: &NodeInner) -> Hello {
    Hello::new(&node.identity.mesh, node.identity.boot, node.identity.random)
}

/// Sends a greeting.
pub async fn say(writer: &mut FrameWriter<SendStream>, greeting: &Greeting) -> Outcome<()> {
    writer.item(&greeting.encode()?).await
}

/// Receives a greeting.
pub async fn next(reader: &mut FrameReader<RecvStream>) -> Outcome<Greeting> {
    match reader.piece().await? {
        Piece::Item(bytes) => Greeting::decode(&bytes),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Fault {
    Fault::new(Code::Protocol, "the greeting does not follow the protocol")
}
