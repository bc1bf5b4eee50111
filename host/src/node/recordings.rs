//! Recordings of policies: from the slot's queue to whoever records.

use serde_bytes::ByteBuf;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::answer::{Reader, Writer};
use super::control::REPORT_MAX;
use super::generation::Runs;
use super::{Node, slots};
use crate::clock;
use crate::log::Level;
use crate::policy::recorder::{self, Tape};
use crate::policy::replay::FUEL;
use crate::words::count::count;
use crate::words::recording::{FORMAT, Header, RECORDING_MAX, Told, Why};
use crate::words::{Code, Fault, Outcome, note};

/// Recordings at a time. Each may have 24 MiB waiting.
const PLACES: usize = 2;
/// Longest time of a recording, or of a shadow: a day, as of a call.
const TIME_MOST_MS: u64 = 24 * 3_600_000;
/// Largest piece of the file in one item of the answer, which may be sealed.
const PIECE: usize = 256 << 10;
/// Kept free for the end of the file.
const END_ROOM: usize = 1 << 10;
/// Time for a reader to take what was recorded until the end.
const PATIENCE_MS: u64 = 30_000;

/// Places for recordings, and for shadows, which listen in the same way.
pub struct Recordings(Semaphore);

impl Default for Recordings {
    fn default() -> Self {
        Self(Semaphore::new(PLACES))
    }
}

impl Recordings {
    /// A place for one more, which is to go on for this long.
    ///
    /// # Errors
    /// `busy`; `usage` when that is too long.
    pub(super) fn place(&self, node: &Node, time_ms: u64) -> Outcome<SemaphorePermit<'_>> {
        if time_ms > TIME_MOST_MS {
            return Err(Fault::new(Code::Usage, "a policy is recorded, or has a shadow, for a day at most"));
        }
        self.0.try_acquire().map_err(|_| {
            let made = count(PLACES, "recording");
            Fault::new(Code::Busy, format!("{} makes {made} or shadows already", node.identity.label))
        })
    }
}

/// Records a slot for this long, or until whoever asked goes away.
pub async fn answer(
    node: &Node,
    slot: &str,
    time_ms: u64,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Outcome<()> {
    let _place = node.recordings.place(node, time_ms)?;
    let (header, tape) = start(node, slot).await?;
    node.log.host(Level::Info, &format!("{slot} is recorded from a fresh instance on"));
    let deadline = clock::deadline_in(time_ms);
    let last = clock::deadline_in(time_ms.saturating_add(PATIENCE_MS));
    let why = tokio::select! {
        biased;
        why = tell(&header, tape, deadline, writer) => why?,
        () = reader.hung_up() => Why::Interrupted,
        () = tokio::time::sleep_until(last) => {
            return Err(Fault::new(Code::Deadline, format!("recording of {slot} was not taken in time")));
        }
    };
    node.log.host(Level::Info, &format!("{slot} is not recorded any more: {}", why.as_str()));
    match why {
        // Nobody is there to be told.
        Why::Interrupted => Ok(()),
        why => writer.last(&note::write("end", &Told::Over(why), REPORT_MAX)?).await,
    }
}

/// Has the slot begin anew. What is returned is to be told at once: from here on the policy fills the queue.
async fn start(node: &Node, slot: &str) -> Outcome<(Vec<u8>, Tape)> {
    let generation = node.generation.load_full();
    let installed = generation.plugins.get(slot).ok_or_else(|| {
        Fault::new(Code::NotFound, format!("{} is no slot of this node", crate::words::id::clip(slot)))
            .fix("`midplane plugins` lists them")
    })?;
    let entry = &installed.entry;
    let Runs::Policy(policy) = &installed.runs else {
        let what = format!("{slot} is a {}; policies are what can be recorded", entry.kind);
        return Err(Fault::new(Code::Usage, what).fix("`midplane plugins` shows the kinds"));
    };
    let header = Header {
        midplane_recording: FORMAT,
        host: env!("CARGO_PKG_VERSION").to_owned(),
        slot: slot.to_owned(),
        kind: entry.kind,
        component: entry.component,
        memory: entry.limits.memory,
        fuel: FUEL,
        began: clock::now_ms(),
    };
    let (recorder, tape) = recorder::queue();
    slots::record(node, entry, policy, recorder).await?;
    Ok((note::write("header", &header, REPORT_MAX)?, tape))
}

/// Tells pieces of the file until there are no more, and why.
async fn tell(header: &[u8], mut tape: Tape, deadline: Instant, writer: &mut Writer) -> Outcome<Why> {
    piece(writer, header).await?;
    let (mut written, mut ended) = (header.len(), false);
    loop {
        let item = tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline), if !ended => {
                tape.close(Why::Time);
                ended = true;
                continue;
            }
            item = tape.next() => item,
        };
        let Some(item) = item else { return Ok(tape.why()) };
        written += item.len();
        if written > RECORDING_MAX - END_ROOM {
            return Ok(Why::Full);
        }
        for bytes in item.chunks(PIECE) {
            piece(writer, bytes).await?;
        }
    }
}

async fn piece(writer: &mut Writer, bytes: &[u8]) -> Outcome<()> {
    let told = Told::Piece(ByteBuf::from(bytes));
    writer.item(&note::write("piece", &told, REPORT_MAX)?).await
}
