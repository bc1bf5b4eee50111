//! `midplane record`: what a policy is told and what it decides, in a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use super::client::{ASK, Conversation, block_on};
use crate::net::Piece;
use crate::node::control::REPORT_MAX;
use crate::store::files;
use crate::words::control::Request;
use crate::words::count::count;
use crate::words::note::{self, decode_fault};
use crate::words::recording::{End, Item, RECORDING_MAX, Recording, Told, Why, item};
use crate::words::{Code, Digest, Fault, Outcome};

/// Arguments of `midplane record`.
#[derive(clap::Args)]
pub(super) struct Record {
    /// The policy's slot
    slot: String,
    /// The file to write
    file: PathBuf,
    /// How long; ctrl-c ends it sooner
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    time: Duration,
}

/// What was recorded.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    file: PathBuf,
    slot: String,
    component: Digest,
    calls: usize,
    bytes: usize,
    ended: Why,
}

impl Record {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        if self.file.exists() {
            let what = format!("{} is there already", self.file.display());
            return Err(Fault::new(Code::Usage, what).fix("name another file, or remove this one"));
        }
        let beside = beside(&self.file);
        // It holds what the policy knows.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let mut file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                let what =
                    format!("{} is there already: a recording goes on or was cut off", beside.display());
                Fault::new(Code::Usage, what).fix("name another file; what was cut off can be replayed")
            }
            _ => Fault::io(format!("cannot write {}", beside.display()), &error),
        })?;
        let taken = block_on(None, self.take(global, &mut file, &beside));
        if taken.is_err() && file.metadata().is_ok_and(|status| status.len() == 0) {
            let _ = std::fs::remove_file(&beside);
        }
        let (why, broken) = taken?;
        let report = self.finish(file, &beside, why)?;
        match broken {
            None => {
                global.out().report(&report, text);
                Ok(())
            }
            Some(fault) => Err(Fault { what: format!("{}; {}", fault.what, text(&report)), ..fault }),
        }
    }

    /// Writes what comes. Why there is no more; with a fault, when it is not what was asked for.
    async fn take(&self, global: &Global, file: &mut File, beside: &Path) -> Outcome<(Why, Option<Fault>)> {
        let fail = |error: std::io::Error| Fault::io("cannot listen for signals", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        let time_ms = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Record { slot: self.slot.clone(), time_ms };
        let asked = async {
            let mut conversation = Conversation::start(global, &request).await?;
            let first = told(&mut conversation).await?;
            Ok((conversation, first))
        };
        let patience = global.timeout.unwrap_or(ASK);
        let late = || {
            let what = format!("no answer in {}", humantime::format_duration(patience));
            Fault::new(Code::Deadline, what).fix("--timeout gives more time")
        };
        let early = || Fault::new(Code::Cancelled, "interrupted before the recording began");
        let (mut conversation, mut next) = tokio::select! {
            biased;
            _ = interrupt.recv() => return Err(early()),
            _ = terminate.recv() => return Err(early()),
            asked = tokio::time::timeout(patience, asked) => asked.unwrap_or_else(|_| Err(late()))?,
        };
        let mut announced = global.out().is_json();
        loop {
            match next {
                Told::Piece(bytes) => {
                    let fail = |error| Fault::io(format!("cannot write {}", beside.display()), &error);
                    file.write_all(&bytes).map_err(fail)?;
                    if !std::mem::replace(&mut announced, true) {
                        // For whoever waits for it; the report alone is the command's output.
                        let _ = writeln!(std::io::stderr(), "recording {}; ctrl-c ends it", self.slot);
                    }
                }
                Told::Over(Why::Behind) => {
                    let what = format!("recording of {} ended early: {}", self.slot, Why::Behind.as_str());
                    return Ok((Why::Behind, Some(Fault::new(Code::Busy, what))));
                }
                Told::Over(why) => return Ok((why, None)),
            }
            next = tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok((Why::Interrupted, None)),
                _ = terminate.recv() => return Ok((Why::Interrupted, None)),
                told = told(&mut conversation) => match told {
                    Ok(told) => told,
                    Err(fault) => return Ok((Why::Lost, Some(fault))),
                },
            };
        }
    }

    /// Writes the end behind the last whole call, and gives the file its name.
    fn finish(&self, mut file: File, beside: &Path, why: Why) -> Outcome<Report> {
        let fail = |error: std::io::Error| Fault::io(format!("cannot write {}", beside.display()), &error);
        let mut bytes = files::read_limited(beside, RECORDING_MAX as u64)?.unwrap_or_default();
        let recording = Recording::read(&bytes)?;
        bytes.truncate(recording.whole);
        file.set_len(bytes.len() as u64).map_err(fail)?;
        let end = item(&Item::End(End { why, digest: Digest::of(&bytes) }))?;
        // Behind what is whole, wherever the last piece ended.
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(fail)?;
        file.write_all(&end).and_then(|()| file.sync_all()).map_err(fail)?;
        std::fs::rename(beside, &self.file).map_err(fail)?;
        Ok(Report {
            file: self.file.clone(),
            slot: recording.header.slot,
            component: recording.header.component.digest,
            calls: recording.calls.len(),
            bytes: bytes.len() + end.len(),
            ended: why,
        })
    }
}

/// Where it is written until it is whole. Named, not random: what a crash leaves is found, and can be replayed.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    file.with_file_name(name)
}

async fn told(conversation: &mut Conversation) -> Outcome<Told> {
    match conversation.piece().await? {
        Piece::Item(bytes) => note::read("piece", &bytes, REPORT_MAX),
        Piece::Error(bytes) => Err(decode_fault(&bytes)),
        _ => Err(Fault::new(Code::Protocol, "the node ended a recording without saying why")),
    }
}

fn text(report: &Report) -> String {
    format!(
        "{} of {} are in {}, {}; the recording ended because {}",
        count(report.calls, "call"),
        report.slot,
        report.file.display(),
        count(report.bytes, "byte"),
        report.ended.as_str()
    )
}
