//! QUIC by itself: the same cryptography and the same bytes on streams of the same kind, with quinn's own settings and
//! nothing read in them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use midplane::net::tls::{self, SERVER_NAME, Tls};
use midplane::node::NodeInner;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use tokio::task::JoinSet;

use crate::Failure;

/// No request and no answer is longer.
const LONGEST: usize = 64 * 1024;

/// Someone who asks, and who answers: at once, or over another one.
pub struct Line {
    connection: Connection,
    request: Bytes,
    _tasks: JoinSet<()>,
    _endpoints: Vec<Endpoint>,
}

impl Line {
    /// A line over so many links. The keys are those of a node.
    pub async fn start(
        node: &NodeInner,
        links: usize,
        request: Bytes,
        answer: Bytes,
    ) -> Result<Self, Failure> {
        let tls = tls::configs(&tls::pkcs8(&node.identity.key), node.identity.id)?;
        let (mut tasks, mut endpoints) = (JoinSet::new(), Vec::new());
        let server = endpoint(&tls)?;
        let mut addr = server.local_addr()?;
        tasks.spawn(accept(server.clone(), None, answer));
        endpoints.push(server);
        for _ in 1..links {
            let relay = endpoint(&tls)?;
            let next = connect(&relay, &tls, addr).await?;
            addr = relay.local_addr()?;
            tasks.spawn(accept(relay.clone(), Some(next), Bytes::new()));
            endpoints.push(relay);
        }
        let client = endpoint(&tls)?;
        let connection = connect(&client, &tls, addr).await?;
        endpoints.push(client);
        Ok(Self { connection, request, _tasks: tasks, _endpoints: endpoints })
    }

    /// One request and its answer.
    pub async fn ask(&self) {
        ask(&self.connection, self.request.clone()).await.expect("an answer");
    }

    /// The same without borrowing, for tasks.
    pub fn asker(&self) -> impl AsyncFn() + Clone + 'static {
        let (connection, request) = (self.connection.clone(), self.request.clone());
        async move || ask(&connection, request.clone()).await.expect("an answer")
    }
}

async fn ask(connection: &Connection, request: Bytes) -> Result<(), Failure> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_chunk(request).await?;
    send.finish()?;
    while recv.read_chunk(LONGEST, true).await?.is_some() {}
    Ok(())
}

fn endpoint(tls: &Tls) -> Result<Endpoint, Failure> {
    let crypto = QuicServerConfig::try_from(tls.server.clone())?;
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    Ok(Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?)
}

async fn connect(from: &Endpoint, tls: &Tls, to: SocketAddr) -> Result<Connection, Failure> {
    let crypto = QuicClientConfig::try_from(tls.client(None, Arc::default()))?;
    let config = ClientConfig::new(Arc::new(crypto));
    Ok(from.connect_with(config, to, SERVER_NAME)?.await?)
}

/// Takes one connection and answers every stream on it, by itself or by asking `next`.
async fn accept(endpoint: Endpoint, next: Option<Connection>, answer: Bytes) {
    let Some(incoming) = endpoint.accept().await else { return };
    let Ok(connection) = incoming.await else { return };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            stream = connection.accept_bi() => match (stream, next.clone()) {
                (Ok((send, recv)), None) => drop(streams.spawn(serve(send, recv, answer.clone()))),
                (Ok((send, recv)), Some(next)) => drop(streams.spawn(relay(send, recv, next))),
                (Err(_), _) => return,
            },
        }
    }
}

async fn serve(mut send: SendStream, mut recv: RecvStream, answer: Bytes) {
    while recv.read_chunk(LONGEST, true).await.expect("a request").is_some() {}
    send.write_chunk(answer).await.expect("room for an answer");
    send.finish().expect("an open stream");
}

async fn relay(send: SendStream, recv: RecvStream, next: Connection) {
    let (forth, back) = next.open_bi().await.expect("a stream");
    tokio::join!(copy(recv, forth), copy(back, send));
}

async fn copy(mut from: RecvStream, mut to: SendStream) {
    while let Some(chunk) = from.read_chunk(LONGEST, true).await.expect("a chunk") {
        to.write_chunk(chunk.bytes).await.expect("room");
    }
    to.finish().expect("an open stream");
}
