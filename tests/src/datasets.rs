//! Entries of datasets as a test reads and writes them, over the control socket and without a process for each.

use midplane::net::{FrameReader, FrameWriter, Piece, Pipe};
use midplane::words::control::Request;
use midplane::words::dataset::{DatasetRequest, Found};
use midplane::words::envelope::encode_start;
use midplane::words::frame::Exchange;
use midplane::words::note::decode_fault;
use midplane::words::{Code, Fault, Outcome};
use tokio::net::UnixStream;

use crate::node::Node;

/// Largest answer of these conversations.
const MOST: usize = 1 << 20;
/// Time that a write may take.
const TIMEOUT_MS: u64 = 20_000;

/// Has a value kept; without a fault it was acknowledged.
pub async fn put(node: &Node, dataset: &str, key: &str, value: &[u8]) -> Outcome<()> {
    let (dataset, key) = (dataset.to_owned(), key.to_owned());
    ask(node, DatasetRequest::Put { dataset, key, timeout_ms: TIMEOUT_MS }, Some(value)).await.map(drop)
}

/// Reads a value.
pub async fn get(node: &Node, dataset: &str, key: &str) -> Outcome<Vec<u8>> {
    let request = DatasetRequest::Get { dataset: dataset.to_owned(), key: key.to_owned() };
    let bytes = ask(node, request, None).await?;
    let found: Found = ciborium::from_reader(&bytes[..]).expect("a report");
    Ok(found.value)
}

/// One request and the item that answers it, empty when an end does.
async fn ask(node: &Node, request: DatasetRequest, value: Option<&[u8]>) -> Outcome<Vec<u8>> {
    let gone = |error: std::io::Error| Fault::io("the control socket", &error);
    let stream = UnixStream::connect(node.directory().join("control.sock")).await.map_err(gone)?;
    let (read, write) = stream.into_split();
    let mut reader = FrameReader::<Pipe<_>>::over(read, MOST);
    let mut writer = FrameWriter::new(write);
    let mut details = Vec::new();
    ciborium::into_writer(&Request::Dataset(request), &mut details).expect("a request is CBOR");
    writer.open(|out| encode_start(out, Exchange::Control, &details), None).await?;
    if let Some(value) = value {
        writer.item(value).await?;
    }
    match reader.piece().await? {
        Piece::End => Ok(Vec::new()),
        Piece::Item(bytes) => Ok(bytes.to_vec()),
        Piece::Error(bytes) => Err(decode_fault(&bytes)),
        Piece::Open(_) | Piece::Note(_) => Err(Fault::new(Code::Protocol, "no answer")),
    }
}
