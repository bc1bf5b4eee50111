//! A member of the mesh that says it has every blob, and gives other bytes, or none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use midplane::net::{Endpoint, FrameReader, FrameWriter, Piece};
use midplane::store::directory::Directory;
use midplane::store::keys;
use midplane::store::trust::TrustFiles;
use midplane::words::blob::{Ask, Offer};
use midplane::words::envelope::{decode_start, encode_start};
use midplane::words::frame::Exchange;
use midplane::words::hello::{GREETING_MAX, Greeting, Hello, Welcome};
use midplane::words::{Code, Fault, MeshId, Outcome};

use crate::node::Node;

/// Its bytes are those of a blob of this length.
const PIECE: usize = 32 << 10;

/// What a liar does once it has offered a blob.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Gives other bytes.
    Lies,
    /// Fails with this code.
    Fails(Code),
    /// Sends nothing more.
    Silent,
    /// Does not even answer whether it has the blob.
    Deaf,
}

/// A liar under the identity of a node that does not run. Dropping it ends it.
pub struct Liar {
    asked: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Liar {
    /// Dials `to` as `member`, and lies about blobs of this length from then on.
    pub fn start(member: &Node, to: SocketAddr, mesh: MeshId, length: u64) -> Self {
        Self::with(member, to, mesh, length, Manner::Lies)
    }

    /// The same, with another manner.
    pub fn with(member: &Node, to: SocketAddr, mesh: MeshId, length: u64, manner: Manner) -> Self {
        let directory = Directory::new(member.directory());
        let key = keys::load(&directory.node_key()).expect("the member's key");
        let trust = TrustFiles::new(directory, &key).load().expect("the member's trust files");
        let membership = trust.membership.expect("it is a member");
        let from = SocketAddr::new(member.address().ip(), 0);
        let asked = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let counted = asked.clone();
        runtime.spawn(async move {
            let endpoint = Endpoint::bind(&key, from).expect("an endpoint");
            let connection = endpoint.connect(to, None).await.expect("a connection");
            let (send, recv) = connection.open_bi().await.expect("a stream");
            let mut writer = FrameWriter::new(send);
            let mut reader = FrameReader::new(recv, GREETING_MAX);
            let hello = Greeting::Hello(Hello::new(&mesh, 1_000, 7)).encode().expect("a hello");
            writer.open(|out| encode_start(out, Exchange::Hello, &[]), Some(&hello)).await.expect("said");
            let welcome = Welcome {
                newest: None,
                label: "liar".to_owned(),
                tags: Vec::new(),
                slots: Vec::new(),
                generation: 0,
                manifest: 0,
                root: 1,
                version: String::new(),
                observed: String::new(),
            };
            for own in [Greeting::Show { membership: Some(membership) }, Greeting::Welcome(welcome)] {
                reader.piece().await.expect("a greeting");
                writer.item(&own.encode().expect("a greeting")).await.expect("said");
            }
            while let Ok((send, recv)) = connection.accept_bi().await {
                let (writer, counted) = (FrameWriter::new(send), counted.clone());
                tokio::spawn(async move {
                    lie(writer, FrameReader::new(recv, GREETING_MAX), length, &counted, manner).await
                });
            }
        });
        Self { asked, _runtime: runtime }
    }

    /// How often it was asked for bytes.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn lie(
    mut writer: FrameWriter<quinn::SendStream>,
    mut reader: FrameReader<quinn::RecvStream>,
    length: u64,
    asked: &AtomicUsize,
    manner: Manner,
) -> Outcome<()> {
    let open = reader.open().await?;
    if matches!(manner, Manner::Deaf) {
        return std::future::pending().await;
    }
    let (_, details) = decode_start(&open)?;
    let ask: Ask = ciborium::from_reader(details).expect("a blob is asked for");
    let mut offer = Vec::new();
    ciborium::into_writer(&Offer { length }, &mut offer).expect("an offer is CBOR");
    writer.item(&offer).await?;
    if ask.end > ask.start {
        asked.fetch_add(1, Ordering::Relaxed);
        match manner {
            Manner::Fails(code) => return writer.fail(&Fault::new(code, "it cannot be read")).await,
            Manner::Silent => return std::future::pending().await,
            Manner::Lies | Manner::Deaf => writer.item(&vec![0x5a; PIECE]).await?,
        }
    }
    let done = writer.end().await;
    while !matches!(reader.piece().await, Ok(Piece::End) | Err(_)) {}
    done
}
