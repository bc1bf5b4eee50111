//! A member of the mesh that says over its link what no node would say.

use std::net::SocketAddr;

use midplane::net::{FrameReader, FrameWriter, Piece};
use midplane::store::directory::Directory;
use midplane::store::keys;
use midplane::store::trust::TrustFiles;
use midplane::words::envelope::{Fixed, encode_open, encode_start};
use midplane::words::frame::{Exchange, FrameKind};
use midplane::words::hello::Greeting;
use midplane::words::hop::Hop;
use midplane::words::json::{cbor_to_json, json_to_cbor};
use midplane::words::mesh::AskManifest;
use midplane::words::note::decode_fault;
use midplane::words::schema::Form;
use midplane::words::{Code, Digest, Fault, NodeId, Outcome};
use serde_json::Value;

use crate::forge::{self, Unadmitted};
use crate::node::Node;

/// Largest item of an answer that these calls have.
const MOST: usize = 64 << 10;

/// A link made by hand.
pub struct Member {
    id: NodeId,
    greeted: Unadmitted,
}

impl Member {
    /// Dials a running node with the key and the membership of another, which does not run.
    pub async fn link(node: &Node, to: &Node) -> Outcome<Self> {
        let directory = Directory::new(node.directory());
        let key = keys::load(&directory.node_key())?;
        let membership = TrustFiles::new(directory, &key).load()?.membership.map(|signed| signed.into_vec());
        let from = SocketAddr::new(node.address().ip(), 0);
        let mesh = forge::mesh_id(to);
        let greeted = forge::greeted(&key, membership, from, to.address(), mesh, 7).await?;
        match &greeted.told {
            Greeting::Welcome(_) => Ok(Self { id: greeted.endpoint.own_id(), greeted }),
            other => Err(Fault::new(Code::NotAdmitted, format!("{other:?}"))),
        }
    }

    /// Asks for a manifest by its digest: the signed bytes, or the fault that came.
    pub async fn manifest(&self, digest: Digest) -> Outcome<Vec<u8>> {
        let mut details = Vec::new();
        ciborium::into_writer(&AskManifest { digest }, &mut details).expect("a request is CBOR");
        let (send, recv) = self.greeted.connection.open_bi().await.expect("a stream");
        let mut writer = FrameWriter::new(send);
        writer.push_with(FrameKind::Open, |out| encode_start(out, Exchange::Manifest, &details))?;
        writer.finish().await?;
        match FrameReader::new(recv, MOST).piece().await? {
            Piece::Item(item) => Ok(item.to_vec()),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            other => Err(Fault::new(Code::Protocol, format!("{other:?}"))),
        }
    }

    /// Calls a function over the link and claims this hop for it: one value, or the fault that came.
    pub async fn call(&self, name: &str, function: &str, arguments: &Value, hop: &Hop) -> Outcome<Value> {
        let fixed = Fixed {
            id: [1; 16],
            from: self.id,
            name: name.parse()?,
            to: None,
            function: function.to_owned(),
            form: Form::Json.number(),
            arguments: json_to_cbor(arguments),
            more: false,
            idempotent: false,
            created: midplane::clock::now_ms(),
        };
        let mut bytes = Vec::new();
        fixed.as_ref().encode(&mut bytes)?;
        let (send, recv) = self.greeted.connection.open_bi().await.expect("a stream");
        let mut writer = FrameWriter::new(send);
        writer.push_with(FrameKind::Open, |out| encode_open(out, Exchange::Invoke, &bytes, hop))?;
        writer.finish().await?;
        let mut reader = FrameReader::new(recv, MOST);
        let mut piece = reader.piece().await?;
        while matches!(piece, Piece::Note(_)) {
            piece = reader.piece().await?;
        }
        match piece {
            Piece::Item(item) => cbor_to_json(&item),
            Piece::End => Ok(Value::Null),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            other => Err(Fault::new(Code::Protocol, format!("{other:?}"))),
        }
    }
}
