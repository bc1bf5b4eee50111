//! `midplane blob`: bytes by digest, on this node and from its peers.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::Global;
use super::client::{ASK, Conversation, Target, ask, block_on};
use super::output::table;
use crate::net::Piece;
use crate::node::blobs::REPORT_MAX;
use crate::words::blob::{BlobReport, BlobRequest, Collected, Freed, Got, Progress, Put as PutReport, Rest};
use crate::words::control::Request;
use crate::words::count::count;
use crate::words::note::{self, decode_fault};
use crate::words::objects::BlobRef;
use crate::words::{Code, Digest, Fault, Outcome};

/// Time for a transfer, if nothing else was said: large blobs over slow links take hours.
const TRANSFER: Duration = Duration::from_secs(24 * 3600);
/// Time for a collection: it waits until a manifest that is being applied is in force.
const COLLECT: Duration = Duration::from_secs(300);
/// Bytes that are read from a file at a time.
const STEP: usize = 256 << 10;
/// Standard input or output.
const STANDARD: &str = "-";

/// Arguments of `midplane blob`.
#[derive(clap::Args)]
pub(super) struct Blob {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep a file as a blob, and print its digest when it is durable
    Put(Put),
    /// Read a blob; one that is not here is fetched from peers
    Get(Get),
    /// What blobs are here
    #[command(alias = "list")]
    Ls {},
    /// Take away the blobs that no pin, no generation and no transfer needs
    #[command(alias = "collect")]
    Gc {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a blob until it is unpinned
    Pin {
        /// Its digest, or the first characters of it
        digest: String,
    },
    /// Let a blob be collected when nothing else needs it
    Unpin {
        /// Its digest, or the first characters of it
        digest: String,
    },
}

#[derive(clap::Args)]
struct Put {
    /// The file; `-` for standard input
    file: PathBuf,
    /// Do not pin it: it is kept for an hour, and goes with the next collection after that
    #[arg(long)]
    no_pin: bool,
}

#[derive(clap::Args)]
struct Get {
    /// Its digest; of a blob that is here the first characters of it
    digest: String,
    /// Where to write it; `-` for standard output
    #[arg(long, value_name = "FILE", default_value = STANDARD)]
    out: PathBuf,
    /// Only if it is here: do not ask peers
    #[arg(long)]
    local: bool,
}

impl Blob {
    pub(super) fn run(self, global: &Global) -> Outcome<()> {
        match self.command {
            Command::Put(put) => put.run(global),
            Command::Get(get) => get.run(global),
            Command::Ls {} => {
                let reports = block_on(global.timeout.or(Some(ASK)), list(Target::from(global)))?;
                global.out().report(&reports, |reports| text(reports));
                Ok(())
            }
            Command::Gc { dry_run } => {
                let report = block_on(Some(global.timeout.unwrap_or(COLLECT)), collect(global, dry_run))?;
                global.out().report(&report, collected);
                Ok(())
            }
            Command::Pin { digest } => change(global, BlobRequest::Pin { digest }),
            Command::Unpin { digest } => change(global, BlobRequest::Unpin { digest }),
        }
    }
}

impl Put {
    fn run(&self, global: &Global) -> Outcome<()> {
        let time = Some(global.timeout.unwrap_or(TRANSFER));
        let put = if global.on.is_some() {
            block_on(time, self.elsewhere(global))?
        } else {
            block_on(time, self.here(global))?
        };
        global.out().report(&put, |put| put.digest.to_string());
        Ok(())
    }

    async fn here(&self, global: &Global) -> Outcome<PutReport> {
        let (mut source, length): (Box<dyn Read>, _) = if self.file == Path::new(STANDARD) {
            (Box::new(std::io::stdin().lock()), None)
        } else {
            let (file, length) = self.open()?;
            (Box::new(file), length)
        };
        let bar = bar(length);
        let request = BlobRequest::Put { length, pin: !self.no_pin };
        let mut conversation = Conversation::start(global, &Request::Blob(request)).await?;
        if let Err(fault) = upload(&mut source, &mut conversation, &bar).await {
            // A node that takes no more has said why.
            return Err(conversation.report::<PutReport>().await.err().unwrap_or(fault));
        }
        bar.finish_and_clear();
        conversation.report().await
    }

    /// Another node takes only what the operator signed, so the digest must be known first.
    async fn elsewhere(&self, global: &Global) -> Outcome<PutReport> {
        if self.file == Path::new(STANDARD) {
            let what = "standard input is not signed for another node: its digest is known only at its end";
            return Err(Fault::new(Code::Usage, what).fix("put it into a file first"));
        }
        let fail = |error: std::io::Error| Fault::io(format!("cannot read {}", self.file.display()), &error);
        let (mut file, _) = self.open()?;
        let mut hasher = blake3::Hasher::new();
        let length = std::io::copy(&mut file, &mut hasher).map_err(fail)?;
        let blob = BlobRef { digest: (*hasher.finalize().as_bytes()).into(), length };
        let lacks: Vec<Digest> = ask(global, &Request::Lacks { blobs: vec![blob] }).await?;
        if !lacks.is_empty() {
            let bar = bar(Some(length));
            let mut conversation = Conversation::start(global, &Request::PutBlob { blob }).await?;
            let (mut file, _) = self.open()?;
            if let Err(fault) = upload(&mut file, &mut conversation, &bar).await {
                return Err(conversation.end().await.err().unwrap_or(fault));
            }
            conversation.end().await?;
            bar.finish_and_clear();
        }
        if !self.no_pin {
            let digest = blob.digest.to_string();
            let _: BlobReport = ask(global, &Request::Blob(BlobRequest::Pin { digest })).await?;
        }
        Ok(PutReport { digest: blob.digest, length, pinned: !self.no_pin, new: !lacks.is_empty() })
    }

    fn open(&self) -> Outcome<(File, Option<u64>)> {
        let fail = |error: std::io::Error| Fault::io(format!("cannot read {}", self.file.display()), &error);
        let file = File::open(&self.file).map_err(fail)?;
        let status = file.metadata().map_err(fail)?;
        if status.is_dir() {
            let what = format!("{} is a directory", self.file.display());
            return Err(Fault::new(Code::Usage, what).fix("tar -c DIR | midplane blob put -"));
        }
        Ok((file, status.is_file().then_some(status.len())))
    }
}

async fn upload(source: &mut dyn Read, conversation: &mut Conversation, bar: &ProgressBar) -> Outcome<()> {
    let mut step = vec![0; STEP];
    loop {
        let read = source.read(&mut step).map_err(|error| Fault::io("cannot read the file", &error))?;
        if read == 0 {
            return conversation.writer.end().await;
        }
        conversation.writer.item(step.get(..read).unwrap_or_default()).await?;
        bar.inc(read as u64);
    }
}

impl Get {
    fn run(self, global: &Global) -> Outcome<()> {
        let to_stdout = self.out == Path::new(STANDARD);
        if to_stdout && global.out().is_json() {
            return Err(Fault::new(
                Code::Usage,
                "the blob and the JSON report cannot both go to standard output",
            )
            .fix("--out FILE"));
        }
        let request = BlobRequest::Get { digest: self.digest, fetch: !self.local };
        let got = block_on(Some(global.timeout.unwrap_or(TRANSFER)), async {
            let mut conversation = Conversation::start(global, &Request::Blob(request)).await?;
            let bar = bar(None);
            let got = head(&mut conversation, &bar).await?;
            bar.set_length(got.length);
            bar.set_position(0);
            if to_stdout {
                let mut stdout = std::io::stdout().lock();
                download(&mut conversation, &mut stdout, &bar).await?;
            } else {
                into_file(&mut conversation, &self.out, &bar).await?;
            }
            bar.finish_and_clear();
            Ok(got)
        })?;
        if !to_stdout {
            let out = self.out.display().to_string();
            global.out().report(&got, |got| {
                let from = if got.fetched { ", fetched from peers" } else { "" };
                format!("{} in {out}{from}", count(got.length, "byte"))
            });
        }
        Ok(())
    }
}

/// What the node says before the bytes.
async fn head(conversation: &mut Conversation, bar: &ProgressBar) -> Outcome<Got> {
    loop {
        match conversation.piece().await? {
            Piece::Note(bytes) => {
                let progress: Progress = note::read("progress", &bytes, note::NOTE_MAX)?;
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            Piece::Item(bytes) => return note::read("report", &bytes, REPORT_MAX),
            Piece::Error(bytes) => return Err(decode_fault(&bytes)),
            _ => return Err(Fault::new(Code::Protocol, "the node answered without a report")),
        }
    }
}

async fn download(conversation: &mut Conversation, sink: &mut dyn Write, bar: &ProgressBar) -> Outcome<()> {
    let fail = |error: std::io::Error| Fault::io("cannot write the blob", &error);
    loop {
        match conversation.piece().await? {
            Piece::Item(bytes) => {
                sink.write_all(&bytes).map_err(fail)?;
                bar.inc(bytes.len() as u64);
            }
            Piece::End => return sink.flush().map_err(fail),
            Piece::Error(bytes) => return Err(decode_fault(&bytes)),
            _ => return Err(Fault::new(Code::Protocol, "a blob is items and an end")),
        }
    }
}

/// Writes beside the file and renames at the end, so that a transfer that is cut leaves the old file or none.
async fn into_file(conversation: &mut Conversation, out: &Path, bar: &ProgressBar) -> Outcome<()> {
    let fail = |error: std::io::Error| Fault::io(format!("cannot write {}", out.display()), &error);
    if out.exists() && !out.is_file() {
        // A pipe or a device cannot be replaced.
        let mut file = File::options().write(true).open(out).map_err(fail)?;
        return download(conversation, &mut file, bar).await;
    }
    let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let mut file =
        tempfile::Builder::new().prefix(".midplane-").permissions(mode).tempfile_in(parent).map_err(fail)?;
    download(conversation, file.as_file_mut(), bar).await?;
    file.persist(out).map_err(|error| fail(error.error))?;
    Ok(())
}

async fn list(target: Target) -> Outcome<Vec<BlobReport>> {
    let mut conversation = Conversation::start(target, &Request::Blob(BlobRequest::List)).await?;
    let mut reports = Vec::new();
    conversation.each(|report| reports.push(report)).await?;
    Ok(reports)
}

/// What `blob gc` prints.
#[derive(Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Collection {
    dry_run: bool,
    freed: Vec<Freed>,
    bytes: u64,
    #[serde(flatten)]
    rest: Rest,
}

async fn collect(global: &Global, dry_run: bool) -> Outcome<Collection> {
    let request = Request::Blob(BlobRequest::Collect { dry_run });
    let mut conversation = Conversation::start(global, &request).await?;
    let mut collection = Collection { dry_run, ..Collection::default() };
    let add = |report: Collected| match report {
        Collected::Freed(freed) => {
            collection.bytes += freed.length;
            collection.freed.push(freed);
        }
        Collected::Rest(rest) => collection.rest = rest,
    };
    conversation.each(add).await?;
    Ok(collection)
}

fn collected(collection: &Collection) -> String {
    let mut lines: Vec<String> = collection
        .freed
        .iter()
        .map(|freed| {
            let what = if freed.unfinished { " (an unfinished fetch)" } else { "" };
            format!("{}  {}{what}", freed.digest, count(freed.length, "byte"))
        })
        .collect();
    let (word, Rest { kept, leased }) =
        (if collection.dry_run { "would free" } else { "freed" }, collection.rest);
    lines.push(format!(
        "{word} {} in {}; {kept} pinned or needed, {leased} in use or put within the last hour",
        count(collection.bytes, "byte"),
        count(collection.freed.len(), "blob")
    ));
    lines.join("\n")
}

fn change(global: &Global, request: BlobRequest) -> Outcome<()> {
    let report: BlobReport = block_on(global.timeout.or(Some(ASK)), ask(global, &Request::Blob(request)))?;
    global.out().report(&report, |report| {
        format!("{} is {}pinned", report.digest, if report.pinned { "" } else { "not " })
    });
    Ok(())
}

fn text(reports: &[BlobReport]) -> String {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let mut kept: Vec<String> =
                report.generations.iter().map(|version| format!("generation {version}")).collect();
            kept.extend_from_slice(&report.slots);
            if report.pinned {
                kept.insert(0, "pin".to_owned());
            }
            let length = report.length.map_or("missing".to_owned(), |length| length.to_string());
            let kept = if kept.is_empty() { "-".to_owned() } else { kept.join(", ") };
            vec![report.digest.to_string(), length, kept]
        })
        .collect();
    table(&["DIGEST", "BYTES", "KEPT BY"], &rows)
}

/// A bar on standard error; on anything but a terminal it shows nothing.
fn bar(length: Option<u64>) -> ProgressBar {
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    match length {
        Some(length) => {
            ProgressBar::new(length).with_style(style("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}"))
        }
        None => ProgressBar::no_length().with_style(style("{spinner} {bytes} {bytes_per_sec}")),
    }
}
