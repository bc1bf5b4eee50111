//! The node's log: what plugins and the host have said lately.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock;

/// Lines that are kept for `logs`.
const KEPT: usize = 4_096;
/// Lines that a slow follower may be behind before it loses some.
const BEHIND: usize = 1_024;
/// Longest line; the rest is cut.
pub const LINE_MAX: usize = 4 << 10;
/// What one plugin may write in a minute; more is dropped and counted.
const PLUGIN_BYTES_PER_MINUTE: usize = 1 << 20;
const MINUTE_MS: u64 = 60_000;

/// Severity, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For somebody who debugs one plugin.
    Trace,
    /// For somebody who debugs.
    Debug,
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warn,
    /// Something does not work.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// Unix milliseconds.
    pub at: u64,
    /// Slot of the plugin, or `host`.
    pub source: String,
    /// Severity.
    pub level: Level,
    /// Without control characters, at most 4 KiB.
    pub text: String,
}

/// The log. Clones share it.
#[derive(Clone)]
pub struct Log {
    book: Arc<Mutex<Book>>,
    follow: broadcast::Sender<Line>,
}

#[derive(Default)]
struct Book {
    lines: VecDeque<Line>,
    quotas: HashMap<String, Quota>,
}

#[derive(Default)]
struct Quota {
    since: u64,
    bytes: usize,
    dropped: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { book: Arc::default(), follow: broadcast::channel(BEHIND).0 }
    }
}

impl Log {
    /// Writes a line of the host.
    pub fn host(&self, level: Level, text: &str) {
        self.append("host", level, text);
    }

    /// Writes a line of a plugin, within the plugin's quota.
    pub fn plugin(&self, slot: &str, level: Level, text: &str) {
        let now = clock::now_ms();
        let dropped = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            let quota = book.quotas.entry(slot.to_owned()).or_default();
            let mut dropped = 0;
            if now.saturating_sub(quota.since) >= MINUTE_MS {
                dropped = std::mem::take(&mut quota.dropped);
                *quota = Quota { since: now, ..Quota::default() };
            }
            quota.bytes = quota.bytes.saturating_add(text.len().min(LINE_MAX));
            if quota.bytes > PLUGIN_BYTES_PER_MINUTE {
                quota.dropped += 1;
                return;
            }
            dropped
        };
        if dropped > 0 {
            let text = format!("{slot} wrote more than 1 MiB in a minute; {dropped} lines were dropped");
            self.append("host", Level::Warn, &text);
        }
        self.append(slot, level, text);
    }

    /// The newest `most` lines of one source or of all, oldest first.
    pub fn tail(&self, most: usize, source: Option<&str>) -> Vec<Line> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |line: &&Line| source.is_none_or(|source| line.source == source);
        let mut lines: Vec<Line> = book.lines.iter().rev().filter(of).take(most).cloned().collect();
        lines.reverse();
        lines
    }

    /// Lines from now on. A follower that is too slow is told how many it lost.
    pub fn follow(&self) -> broadcast::Receiver<Line> {
        self.follow.subscribe()
    }

    fn append(&self, source: &str, level: Level, text: &str) {
        let line = Line { at: clock::now_ms(), source: source.to_owned(), level, text: clean(text) };
        match level {
            Level::Error => tracing::error!(source, "{}", line.text),
            Level::Warn => tracing::warn!(source, "{}", line.text),
            Level::Info => tracing::info!(source, "{}", line.text),
            Level::Debug | Level::Trace => tracing::debug!(source, "{}", line.text),
        }
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if book.lines.len() >= KEPT {
            book.lines.pop_front();
        }
        book.lines.push_back(line.clone());
        drop(book);
        // Nobody follows: nothing to do.
        let _ = self.follow.send(line);
    }
}

/// Cuts to the limit and takes out control characters, so that no plugin can move a terminal's cursor or fake a line.
pub fn clean(text: &str) -> String {
    let mut end = text.len().min(LINE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = text.get(..end).unwrap_or_default();
    cut.trim_end()
        .chars()
        .map(|char| if char.is_control() && char != '\t' { '\u{FFFD}' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_long_lines_do_not_get_in() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a\u{FFFD}[31mb\u{FFFD}c");
        assert_eq!(clean("tail \n"), "tail");
        assert_eq!(clean(&"é".repeat(LINE_MAX)).len(), LINE_MAX);
    }

    #[test]
    fn a_flood_is_cut_and_others_still_get_through() {
        let log = Log::default();
        let long = "x".repeat(LINE_MAX);
        for _ in 0..1_000 {
            log.plugin("noisy", Level::Info, &long);
        }
        log.plugin("quiet", Level::Info, "still here");
        assert_eq!(log.tail(usize::MAX, Some("noisy")).len(), PLUGIN_BYTES_PER_MINUTE / LINE_MAX);
        assert_eq!(log.tail(10, Some("quiet")).len(), 1);
    }
}
