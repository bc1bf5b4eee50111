//! Calls over a node's control socket, as the command line makes them, without a process for each.

use std::path::Path;

use midplane::net::frames::Pipe;
use midplane::net::{FrameReader, FrameWriter, Piece};
use midplane::words::control::Request;
use midplane::words::envelope::encode_start;
use midplane::words::frame::Exchange;
use midplane::words::note::{decode_fault, served_by};
use midplane::words::schema::Form;
use midplane::words::{Code, Digest, Fault, Outcome};
use tokio::net::UnixStream;

/// Largest piece of an answer.
const MOST: usize = 64 << 10;
/// Time for a call.
const CALL_MS: u64 = 30_000;

/// Calls a function without arguments: who served it, and what it answered.
pub async fn call(socket: &Path, name: &str, function: &str) -> Outcome<(Option<Digest>, Vec<u8>)> {
    let request = Request::Call {
        name: name.parse()?,
        function: function.to_owned(),
        form: Form::Cbor.number(),
        timeout_ms: CALL_MS,
        idempotent: false,
        trace: false,
    };
    let mut details = Vec::new();
    ciborium::into_writer(&request, &mut details)
        .map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
    let stream = UnixStream::connect(socket).await.map_err(|error| Fault::io("cannot connect", &error))?;
    let (read, write) = stream.into_split();
    let mut reader = FrameReader::<Pipe<_>>::over(read, MOST);
    let mut writer = FrameWriter::new(write);
    writer.open(|out| encode_start(out, Exchange::Control, &details), None).await?;
    // And no end: whoever closes this half has gone, and wants no answer any more.
    writer.item(&[0x80]).await?;
    let (mut served, mut answer) = (None, Vec::new());
    loop {
        match reader.piece().await? {
            Piece::Item(bytes) => answer.extend_from_slice(&bytes),
            Piece::Note(bytes) => served = served.or(served_by(&bytes)),
            Piece::End => return Ok((served, answer)),
            Piece::Error(bytes) => return Err(decode_fault(&bytes)),
            Piece::Open(_) => return Err(Fault::new(Code::Protocol, "an answer has no open frame")),
        }
    }
}
