//! What the command line does not make: objects that are wrong on purpose, and requests that it would not send.

use std::net::SocketAddr;
use std::path::Path;

use ed25519_dalek::SigningKey;
use midplane::decisions::cose;
use midplane::net::{self, Endpoint, FrameReader, FrameWriter, Piece, Pipe};
use midplane::store::keys;
use midplane::words::control::Request;
use midplane::words::envelope::encode_start;
use midplane::words::frame::Exchange;
use midplane::words::hello::{GREETING_MAX, Greeting, Hello};
use midplane::words::note::decode_fault;
use midplane::words::objects::{self, BlobRef, Order};
use midplane::words::source::{Resolved, parse, resolve};
use midplane::words::{Code, Digest, Fault, MeshId, NodeId, Outcome};
use tokio::net::UnixStream;

use crate::manifest::Manifest;
use crate::node::Node;

/// Largest request and report that these conversations have.
const MOST: usize = 16 << 10;

/// The mesh of a running node.
pub fn mesh_id(node: &Node) -> MeshId {
    node.json(["status"])["mesh"].as_str().expect("a text").parse().expect("a mesh id")
}

/// Reads the components of a manifest.
pub fn resolved(manifest: &Manifest) -> Resolved {
    let source = parse(manifest.text(), "test.toml").expect("a good manifest");
    resolve(&source, Path::new("/"), &mut |path| std::fs::read(path)).expect("components")
}

/// The object that is signed, fresh and good.
pub fn object(manifest: &Manifest, mesh: MeshId, version: u64) -> objects::Manifest {
    resolved(manifest).manifest(mesh, version, midplane::clock::now_ms())
}

/// Signs with the key of a file.
pub fn sign(object: &objects::Manifest, key: &Path) -> Vec<u8> {
    cose::sign(object, &[&keys::load(key).expect("a key")]).expect("it fits")
}

/// The name of these bytes.
pub fn blob(bytes: &[u8]) -> BlobRef {
    BlobRef { digest: Digest::of(bytes), length: bytes.len() as u64 }
}

/// Hands a running node the bytes of a blob, whatever they are.
pub fn put_blob(node: &Node, blob: BlobRef, bytes: &[u8]) -> Outcome<()> {
    block_on(async {
        let stream = UnixStream::connect(node.directory().join("control.sock")).await.expect("it runs");
        let (read, write) = stream.into_split();
        let mut reader = FrameReader::<Pipe<_>>::over(read, MOST);
        let mut writer = FrameWriter::new(write);
        let mut details = Vec::new();
        ciborium::into_writer(&Request::PutBlob { blob }, &mut details).expect("a request is CBOR");
        writer.open(|out| encode_start(out, Exchange::Control, &details), None).await?;
        // The node may have refused already, and says so below.
        let _ = writer.item(bytes).await;
        let _ = writer.end().await;
        match reader.piece().await? {
            Piece::End => Ok(()),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "neither an end nor an error")),
        }
    })
}

/// Asks a running node for something that one item belongs to; answers the report.
pub fn ask_with(node: &Node, request: &Request, item: &[u8]) -> Outcome<Vec<u8>> {
    block_on(async {
        let stream = UnixStream::connect(node.directory().join("control.sock")).await.expect("it runs");
        let (read, write) = stream.into_split();
        let mut reader = FrameReader::<Pipe<_>>::over(read, MOST);
        let mut writer = FrameWriter::new(write);
        let mut details = Vec::new();
        ciborium::into_writer(request, &mut details).expect("a request is CBOR");
        writer.open(|out| encode_start(out, Exchange::Control, &details), Some(item)).await?;
        match reader.piece().await? {
            Piece::Item(bytes) => Ok(bytes.to_vec()),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "neither a report nor an error")),
        }
    })
}

/// An order as an operator makes it, good for a minute.
pub fn order(mesh: MeshId, target: NodeId, nonce: u8, request: &Request) -> Order {
    let mut bytes = Vec::new();
    ciborium::into_writer(request, &mut bytes).expect("a request is CBOR");
    let now = midplane::clock::now_ms();
    Order {
        mesh,
        target,
        nonce: [nonce; 16],
        created: now,
        expires: now + 60_000,
        request: bytes,
        bulk: None,
    }
}

/// Hands a running node an order for `to`, and what follows it; answers what comes back first, as it is.
pub fn send_order(node: &Node, to: NodeId, signed: &[u8], item: Option<&[u8]>, most: usize) -> Vec<Piece> {
    block_on(async {
        let stream = UnixStream::connect(node.directory().join("control.sock")).await.expect("it runs");
        let (read, write) = stream.into_split();
        let mut reader = FrameReader::<Pipe<_>>::over(read, 2 << 20);
        let mut writer = FrameWriter::new(write);
        let mut details = Vec::new();
        ciborium::into_writer(&Request::Forward { to }, &mut details).expect("a request is CBOR");
        writer
            .open(|out| encode_start(out, Exchange::Control, &details), Some(signed))
            .await
            .expect("it runs");
        if let Some(item) = item {
            // The node may have refused already, and says so below.
            let _ = writer.item(item).await;
        }
        let mut pieces = Vec::new();
        while pieces.len() < most {
            let Ok(piece) = reader.piece().await else { break };
            let last = matches!(piece, Piece::End | Piece::Error(_));
            pieces.push(piece);
            if last {
                break;
            }
        }
        pieces
    })
}

/// A peer of the mesh's own protocol that shows no membership.
pub struct Unadmitted {
    /// The endpoint, whose key nobody knows.
    pub endpoint: Endpoint,
    /// Its connection.
    pub connection: quinn::Connection,
    /// The last greeting: what it was told.
    pub told: Greeting,
    // The hello stream stays open: its end would be the end of the conversation.
    stream: (FrameWriter<quinn::SendStream>, FrameReader<quinn::RecvStream>),
}

impl Unadmitted {
    /// Says something more on the hello stream.
    pub async fn say(&mut self, greeting: &Greeting) -> Outcome<()> {
        self.stream.0.item(&greeting.encode()?).await
    }
}

/// Dials a node as somebody who knows the mesh and does not belong to it.
pub async fn unadmitted(from: SocketAddr, to: SocketAddr, mesh: MeshId, random: u64) -> Outcome<Unadmitted> {
    let key = SigningKey::from_bytes(&[random.to_le_bytes()[0]; 32]);
    greeted(&key, None, from, to, mesh, random).await
}

/// Dials a node as the owner of this key and of this membership, as far as the last greeting.
pub async fn greeted(
    key: &SigningKey,
    membership: Option<Vec<u8>>,
    from: SocketAddr,
    to: SocketAddr,
    mesh: MeshId,
    random: u64,
) -> Outcome<Unadmitted> {
    let endpoint = Endpoint::bind(key, from)?;
    let connection = endpoint.connect(to, None).await?;
    let (send, recv) = connection.open_bi().await.map_err(|error| net::errors::link_fault(&error))?;
    let mut writer = FrameWriter::new(send);
    let mut reader = FrameReader::new(recv, GREETING_MAX);
    let hello = Greeting::Hello(Hello::new(&mesh, 1, random)).encode()?;
    writer.open(|out| encode_start(out, Exchange::Hello, &[]), Some(&hello)).await?;
    said(&mut reader).await?;
    writer.item(&Greeting::Show { membership: membership.map(Into::into) }.encode()?).await?;
    said(&mut reader).await?;
    let told = said(&mut reader).await?;
    Ok(Unadmitted { endpoint, connection, told, stream: (writer, reader) })
}

async fn said(reader: &mut FrameReader<quinn::RecvStream>) -> Outcome<Greeting> {
    match reader.piece().await? {
        Piece::Item(bytes) => Greeting::decode(&bytes),
        other => Err(Fault::new(Code::Protocol, format!("no greeting: {other:?}"))),
    }
}

/// Runs a conversation to its end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(crate::PATIENCE, work).await.expect("the conversation ends in time")
    })
}
