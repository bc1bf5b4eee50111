//! `midplane dataset`: entries that the nodes of a mesh keep the same.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Global;
use super::client::{ASK, Conversation, ask, block_on};
use super::output::{Output, table};
use crate::words::control::Request;
use crate::words::count::count;
use crate::words::dataset::{Change, DatasetReport, DatasetRequest, Found, Listed, VALUE_MAX, check_value};
use crate::words::{Code, Fault, Outcome};

/// How much longer the command waits than the write may take: the node's own answer is better than none.
const GRACE: Duration = Duration::from_secs(2);

/// Arguments of `midplane dataset`.
#[derive(clap::Args)]
pub(super) struct Dataset {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep a value under a key; returns when it is durable on this node
    Put(Put),
    /// Print a value, byte for byte
    Get(Entry),
    /// Remove entries
    Rm(Rm),
    /// The datasets of the node, or the keys of one
    Ls(Ls),
    /// Print changes as they happen, until ctrl-c
    Watch(Watch),
}

#[derive(clap::Args)]
struct Entry {
    /// A dataset that the manifest declares
    dataset: String,
    /// Its key, for example motd or routes/berlin
    #[arg(id = "entry-key", value_name = "KEY")]
    key: String,
}

#[derive(clap::Args)]
struct Put {
    #[command(flatten)]
    entry: Entry,
    /// The value; `-` reads it from standard input
    #[arg(required_unless_present = "file", allow_hyphen_values = true)]
    value: Option<String>,
    /// Read the value from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Rm {
    /// A dataset that the manifest declares
    dataset: String,
    /// Keys
    #[arg(required = true)]
    keys: Vec<String>,
}

#[derive(clap::Args)]
struct Ls {
    /// Only the keys of this dataset
    dataset: Option<String>,
    /// Only keys that begin with this
    #[arg(default_value = "")]
    prefix: String,
}

#[derive(clap::Args)]
struct Watch {
    /// A dataset that the manifest declares
    dataset: String,
    /// Only keys that begin with this
    #[arg(default_value = "")]
    prefix: String,
}

impl Dataset {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        match &self.command {
            Command::Put(put) => put.run(global),
            Command::Get(entry) => get(global, entry),
            Command::Rm(rm) => rm.run(global),
            Command::Ls(ls) => ls.run(global),
            Command::Watch(watch) => watch.run(global),
        }
    }
}

impl Put {
    fn run(&self, global: &Global) -> Outcome<()> {
        let value = match (&self.file, self.value.as_deref()) {
            (Some(file), _) => file_value(file)?,
            (None, Some("-")) => limited(std::io::stdin().lock(), "standard input")?,
            (None, value) => value.unwrap_or_default().as_bytes().to_vec(),
        };
        check_value(&value)?;
        let Entry { dataset, key } = &self.entry;
        let (dataset, key, timeout_ms) = (dataset.clone(), key.clone(), timeout_ms(global));
        let request = DatasetRequest::Put { dataset, key, timeout_ms };
        write(global, request, Some(&value))?;
        let report = json!({ "dataset": self.entry.dataset, "key": self.entry.key, "bytes": value.len() });
        global.out().report(&report, |_| {
            let bytes = count(value.len(), "byte");
            format!("{} is kept in {}, {bytes}", self.entry.key, self.entry.dataset)
        });
        Ok(())
    }
}

impl Rm {
    fn run(&self, global: &Global) -> Outcome<()> {
        let mut removed = Vec::new();
        for key in &self.keys {
            let (dataset, key) = (self.dataset.clone(), key.clone());
            let request =
                DatasetRequest::Remove { dataset, key: key.clone(), timeout_ms: timeout_ms(global) };
            let done = write(global, request, None);
            if let (Err(fault), false) = (&done, removed.is_empty()) {
                let what = format!("{} of {} keys removed; {fault}", removed.len(), self.keys.len());
                return Err(Fault { code: Code::PartlyDone, what, ..fault.clone() });
            }
            done?;
            removed.push(key);
        }
        let report = json!({ "dataset": self.dataset, "removed": removed });
        global.out().report(&report, |_| format!("{} removed from {}", removed.join(", "), self.dataset));
        Ok(())
    }
}

impl Ls {
    fn run(&self, global: &Global) -> Outcome<()> {
        let Some(dataset) = &self.dataset else { return datasets(global) };
        let (dataset, prefix) = (dataset.clone(), self.prefix.clone());
        let request = Request::Dataset(DatasetRequest::List { dataset, prefix });
        let listed = block_on(global.timeout.or(Some(ASK)), async {
            let mut all: Vec<Listed> = Vec::new();
            let add = |some: Vec<Listed>| all.extend(some);
            Conversation::start(global, &request).await?.each(add).await?;
            Ok(all)
        })?;
        global.out().report(&listed, |listed| {
            let rows: Vec<Vec<String>> =
                listed.iter().map(|entry| vec![entry.key.clone(), entry.bytes.to_string()]).collect();
            table(&["KEY", "BYTES"], &rows)
        });
        Ok(())
    }
}

impl Watch {
    fn run(&self, global: &Global) -> Outcome<()> {
        let (dataset, prefix) = (self.dataset.clone(), self.prefix.clone());
        let request = Request::Dataset(DatasetRequest::Watch { dataset, prefix });
        let out = global.out();
        block_on(global.timeout, async {
            let tell = |change: Option<Change>| match change {
                Some(change) => show(out, &change),
                None if global.verbose => eprintln!("watching {}", self.dataset),
                None => {}
            };
            Conversation::start(global, &request).await?.each(tell).await
        })
    }
}

fn get(global: &Global, entry: &Entry) -> Outcome<()> {
    let (dataset, key) = (entry.dataset.clone(), entry.key.clone());
    let request = Request::Dataset(DatasetRequest::Get { dataset, key });
    let found: Found = block_on(global.timeout.or(Some(ASK)), ask(global, &request))?;
    if global.out().is_json() {
        let mut report = json!({ "dataset": entry.dataset, "key": entry.key, "bytes": found.value.len() });
        add_value(&mut report, &found.value);
        global.out().report(&report, |_| String::new());
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    // A terminal's next prompt belongs on a line of its own; a file gets the bytes and nothing else.
    let end: &[u8] = if stdout.is_terminal() && !found.value.ends_with(b"\n") { b"\n" } else { b"" };
    // A reader that is gone has what it wanted.
    let _ = stdout.write_all(&found.value).and_then(|()| stdout.write_all(end)).and_then(|()| stdout.flush());
    Ok(())
}

fn datasets(global: &Global) -> Outcome<()> {
    let request = Request::Dataset(DatasetRequest::Datasets);
    let all: Vec<DatasetReport> = block_on(global.timeout.or(Some(ASK)), ask(global, &request))?;
    global.out().report(&all, |all| {
        let rows: Vec<Vec<String>> = all
            .iter()
            .map(|one| {
                let counts = [one.entries, one.bytes, one.removed, one.conflicts];
                let names = [one.dataset.clone(), one.slot.clone()];
                names.into_iter().chain(counts.map(|count| count.to_string())).collect()
            })
            .collect();
        table(&["DATASET", "SYNCED BY", "ENTRIES", "BYTES", "REMOVED", "CONFLICTS"], &rows)
    });
    Ok(())
}

/// Has something written, and waits until it is.
fn write(global: &Global, request: DatasetRequest, value: Option<&[u8]>) -> Outcome<()> {
    let time = global.timeout.unwrap_or(ASK).saturating_add(GRACE);
    block_on(Some(time), async {
        let request = Request::Dataset(request);
        let mut conversation = match value {
            Some(value) => Conversation::start_with(global, &request, value).await?,
            None => Conversation::start(global, &request).await?,
        };
        conversation.end().await
    })
}

fn timeout_ms(global: &Global) -> u64 {
    u64::try_from(global.timeout.unwrap_or(ASK).as_millis()).unwrap_or(u64::MAX)
}

fn show(out: Output, change: &Change) {
    let mut report = json!({
        "dataset": change.dataset,
        "key": change.key,
        "removed": change.value.is_none(),
    });
    let text = match &change.value {
        None => format!("rm   {}", change.key),
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) if !text.chars().any(char::is_control) => format!("put  {}  {text}", change.key),
            _ => format!("put  {}  ({})", change.key, count(value.len(), "byte")),
        },
    };
    if let Some(value) = &change.value {
        add_value(&mut report, value);
    }
    out.item(&if out.is_json() { report } else { Value::String(text) });
}

/// A value is text where it is text, and base64 where it is not.
fn add_value(report: &mut Value, value: &[u8]) {
    let (name, text) = match std::str::from_utf8(value) {
        Ok(text) => ("value", text.to_owned()),
        Err(_) => ("base64", BASE64.encode(value)),
    };
    if let Some(report) = report.as_object_mut() {
        report.insert(name.to_owned(), text.into());
    }
}

fn file_value(path: &Path) -> Outcome<Vec<u8>> {
    let file = std::fs::File::open(path)
        .map_err(|error| Fault::io(format!("cannot read {}", path.display()), &error))?;
    limited(file, &path.display().to_string())
}

/// Everything, or one byte more than a value may have.
fn limited(from: impl Read, name: &str) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(VALUE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::io(format!("cannot read {name}"), &error))?;
    if bytes.len() > VALUE_MAX {
        let what = format!("{name} has more than {VALUE_MAX} bytes, the limit of an entry");
        return Err(Fault::new(Code::TooLarge, what)
            .fix("keep the bytes elsewhere, and in the entry their digest or address"));
    }
    Ok(bytes)
}
