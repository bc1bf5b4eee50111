//! The command line's end of the control socket.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::net::frames::Pipe;
use crate::net::{FrameReader, FrameWriter, Piece};
use crate::node::control::{REPORT_MAX, REQUEST_MAX};
use crate::store::directory::Directory;
use crate::words::control::Request;
use crate::words::envelope::encode_start;
use crate::words::frame::Exchange;
use crate::words::note::{self, decode_fault};
use crate::words::{Code, Fault, Outcome};

/// Time for a request that only asks.
pub(crate) const ASK: Duration = Duration::from_secs(10);

/// One request and its answer.
pub(crate) struct Conversation {
    pub(crate) reader: FrameReader<Pipe<OwnedReadHalf>>,
    pub(crate) writer: FrameWriter<OwnedWriteHalf>,
}

/// Runs a command's conversation to its end, or to its time.
pub(crate) fn block_on<T>(time: Option<Duration>, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::io("cannot start", &error))?;
    runtime.block_on(async {
        let Some(time) = time else { return work.await };
        tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
            Err(Fault::new(Code::Deadline, format!("no answer in {}", humantime::format_duration(time)))
                .fix("--timeout gives more time"))
        })
    })
}

impl Conversation {
    /// Connects to the node of this directory and sends the request.
    pub(crate) async fn start(directory: &Directory, request: &Request) -> Outcome<Self> {
        directory.require_initialised()?;
        let path = directory.socket()?;
        let stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                Fault::new(Code::NotRunning, format!("no node runs on {}", directory.path().display()))
                    .fix(format!("midplane --data-dir {} run", directory.path().display()))
            }
            _ => Fault::io(format!("cannot talk to {}", path.display()), &error),
        })?;
        let (read, write) = stream.into_split();
        let mut writer = FrameWriter::new(write);
        let details = note::write("request", request, REQUEST_MAX)?;
        writer.open(|out| encode_start(out, Exchange::Control, &details), None).await?;
        Ok(Self { reader: FrameReader::over(read, REPORT_MAX), writer })
    }

    /// The one report that answers.
    pub(crate) async fn report<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        match self.reader.piece().await? {
            Piece::Item(bytes) => note::read("report", &bytes, REPORT_MAX),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "the node answered without a report")),
        }
    }

    /// The end that answers.
    pub(crate) async fn end(&mut self) -> Outcome<()> {
        match self.reader.piece().await? {
            Piece::End => Ok(()),
            Piece::Error(bytes) => Err(decode_fault(&bytes)),
            _ => Err(Fault::new(Code::Protocol, "the node answered with more than an end")),
        }
    }
}

/// Asks for a report.
pub(crate) async fn ask<T: DeserializeOwned>(directory: &Directory, request: &Request) -> Outcome<T> {
    Conversation::start(directory, request).await?.report().await
}
