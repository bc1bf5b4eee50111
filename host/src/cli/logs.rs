//! `midplane logs`: what plugins and the host have said.

use super::Global;
use super::client::{Conversation, block_on};
use crate::log::{Level, Line};
use crate::words::Outcome;
use crate::words::control::Request;

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
            let show = |line: Line| {
                let json = out.is_json().then(|| serde_json::to_value(&line).unwrap_or_default());
                out.item(&json.unwrap_or_else(|| serde_json::Value::String(text(&line))));
            };
            Conversation::start(global, &request).await?.each(show).await
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
