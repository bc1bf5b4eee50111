//! `midplane logs`: what plugins and the host have said.

use super::Global;
use super::client::{Conversation, block_on};
use crate::log::{Level, Line};
use crate::net::Piece;
use crate::node::control::REPORT_MAX;
use crate::words::Outcome;
use crate::words::control::Request;
use crate::words::note::{self, decode_fault};

/// Arguments of `midplane logs`.
#[derive(clap::Args)]
pub(super) struct Logs {
    /// Only of this slot, or of `host`
    source: Option<String>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Lines of the past
    #[arg(short = 'n', long, default_value = "100")]
    tail: u32,
}

impl Logs {
    pub(super) fn run(&self, global: &Global) -> Outcome<()> {
        let request = Request::Logs { tail: self.tail, follow: self.follow, source: self.source.clone() };
        let out = global.out();
        block_on(global.timeout, async {
            let mut conversation = Conversation::start(&global.directory(), &request).await?;
            loop {
                match conversation.reader.piece().await? {
                    Piece::Item(bytes) => {
                        let line: Line = note::read("line", &bytes, REPORT_MAX)?;
                        if out.is_json() {
                            out.item(&serde_json::to_value(&line).unwrap_or_default());
                        } else {
                            out.item(&serde_json::Value::String(text(&line)));
                        }
                    }
                    Piece::Error(bytes) => return Err(decode_fault(&bytes)),
                    _ => return Ok(()),
                }
            }
        })
    }
}

fn text(line: &Line) -> String {
    let level = match line.level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(line.at);
    format!("{} {level:<5} {}: {}", humantime::format_rfc3339_millis(at), line.source, line.text)
}
