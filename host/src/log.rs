//! The node's log: what plugins and the host have said lately.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::clock;

/// The source of what the host itself says.
pub const HOST: &str = "host";
/// Lines that are kept for `logs`.
const KEPT: usize = 4_096;
/// Lines that a slow follower may be behind before it loses some.
const BEHIND: usize = 1_024;
/// Longest line; the rest is cut.
pub const LINE_MAX: usize = 4 << 10;
/// What one plugin may write in a minute; more is dropped and counted.
const PLUGIN_BYTES_PER_MINUTE: usize = 1 << 20;
/// What a line counts besides its text: empty ones are not free.
const LINE_COST: usize = 128;
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
    /// How many of them are of whom.
    counts: BTreeMap<String, usize>,
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
        self.append(HOST, level, text);
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
            quota.bytes = quota.bytes.saturating_add(LINE_COST + text.len().min(LINE_MAX));
            if quota.bytes > PLUGIN_BYTES_PER_MINUTE {
                quota.dropped += 1;
                return;
            }
            dropped
        };
        if dropped > 0 {
            let text = format!("{slot} wrote more than 1 MiB in a minute; {dropped} lines were dropped");
            self.append(HOST, Level::Warn, &text);
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
        book.keep(line.clone());
        drop(book);
        // Nobody follows: nothing to do.
        let _ = self.follow.send(line);
    }
}

impl Book {
    /// Keeps a line. When there is no room, the oldest line of whoever has the most gives way: who says much pushes out nobody else.
    fn keep(&mut self, line: Line) {
        if self.lines.len() >= KEPT {
            let loudest = self.counts.iter().max_by_key(|(_, count)| **count).map(|(source, _)| source);
            let oldest = self.lines.iter().position(|line| Some(&line.source) == loudest).unwrap_or(0);
            if let Some(gone) = self.lines.remove(oldest) {
                self.count_out(&gone.source);
            }
        }
        *self.counts.entry(line.source.clone()).or_default() += 1;
        self.lines.push_back(line);
    }

    fn count_out(&mut self, source: &str) {
        let Some(count) = self.counts.get_mut(source) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.counts.remove(source);
        }
    }
}

/// Cuts to the limit and takes out what is no text, so that no plugin can move a terminal's cursor, fake a line or turn one around.
pub fn clean(text: &str) -> String {
    let text = text.trim_end();
    let mut line = String::with_capacity(text.len().min(LINE_MAX));
    for char in text.chars() {
        let char = if is_text(char) { char } else { '\u{FFFD}' };
        if line.len() + char.len_utf8() > LINE_MAX {
            break;
        }
        line.push(char);
    }
    line
}

/// Whether a character only shows itself: no control character, no end of a line, nothing that changes the direction of what follows.
pub fn is_text(char: char) -> bool {
    match char {
        '\t' => true,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => false,
        _ => !char.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_long_lines_do_not_get_in() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a\u{FFFD}[31mb\u{FFFD}c");
        assert_eq!(clean("tail \n"), "tail");
        assert_eq!(clean("a\u{9b}2Jb\u{202e}c\u{2028}d\u{2066}e"), "a\u{FFFD}2Jb\u{FFFD}c\u{FFFD}d\u{FFFD}e");
        assert_eq!(clean("ä\tß 👩\u{200d}🚀"), "ä\tß 👩\u{200d}🚀");
        assert_eq!(clean(&"é".repeat(LINE_MAX)).len(), LINE_MAX);
        // What stands for a character may be longer than the character.
        assert_eq!(clean(&"\x1b".repeat(LINE_MAX)).len(), LINE_MAX - LINE_MAX % 3);
    }

    #[test]
    fn a_flood_is_cut_and_others_still_get_through() {
        let log = Log::default();
        let long = "x".repeat(LINE_MAX);
        for _ in 0..1_000 {
            log.plugin("noisy", Level::Info, &long);
        }
        log.plugin("quiet", Level::Info, "still here");
        assert_eq!(
            log.tail(usize::MAX, Some("noisy")).len(),
            PLUGIN_BYTES_PER_MINUTE / (LINE_MAX + LINE_COST)
        );
        assert_eq!(log.tail(10, Some("quiet")).len(), 1);
    }

    #[test]
    fn lines_without_text_count_and_push_out_nobody_else() {
        let log = Log::default();
        log.plugin("quiet", Level::Info, "still here");
        log.host(Level::Warn, "so is this");
        for _ in 0..100_000 {
            log.plugin("noisy", Level::Info, "");
        }
        assert_eq!(log.tail(1, Some("quiet")).len(), 1);
        assert_eq!(log.tail(1, Some("host")).len(), 1);
        assert_eq!(log.tail(usize::MAX, None).len(), KEPT);
        let book = log.book.lock().unwrap();
        assert_eq!(book.counts.values().sum::<usize>(), KEPT);
        assert_eq!(book.quotas["noisy"].dropped, 100_000 - (PLUGIN_BYTES_PER_MINUTE / LINE_COST) as u64);
    }

    #[test]
    fn whoever_says_the_most_gives_way() {
        let log = Log::default();
        for number in 0..KEPT {
            log.host(Level::Info, &number.to_string());
        }
        for number in 0..KEPT {
            log.plugin(["a", "b"][number % 2], Level::Info, &number.to_string());
        }
        let of = |source| log.tail(usize::MAX, Some(source)).len();
        assert_eq!(of("host") + of("a") + of("b"), KEPT);
        for source in ["host", "a", "b"] {
            assert!(of(source).abs_diff(KEPT / 3) <= 1, "{source} has {}", of(source));
        }
        assert_eq!(log.tail(1, Some("host"))[0].text, (KEPT - 1).to_string());
    }
}
