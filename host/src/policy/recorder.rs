//! Records the calls of a policy's instances.
//!
//! Each call is written where it is made, so that their order is that of the instance, and put into a queue of bounded size. When
//! there is no room in it the recording ends and the policy goes on: nothing here waits. A shadow ([`super::shadow`]) listens to the same
//! queue; it does without what did not fit, for a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_bytes::ByteBuf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::words::note::ERROR_MAX;
use crate::words::recording::{Answer, Call, Item, Why, item};
use crate::words::{Fault, Outcome, packed};

/// Calls that wait for whoever records: a burst of a few seconds.
const QUEUE_CALLS: usize = 16_384;
/// Bytes that wait: the largest state of a policy, with which a recording begins, and 8 MiB of calls.
const QUEUE_BYTES: usize = 24 << 20;
/// Largest argument or answer, before it is packed: twice the largest state.
const VALUE_MAX: usize = 36 << 20;
/// Calls that a shadow may miss before it ends: it does not know any more what the active policy knows.
const MISSED_MOST: u64 = 64;

/// A queue from a policy to whoever records. What does not fit ends it.
pub fn queue() -> (Recorder, Tape) {
    with_room(0)
}

/// A queue from a policy to its shadow. Some calls may be missed.
pub fn feed() -> (Recorder, Tape) {
    with_room(MISSED_MOST)
}

fn with_room(may_miss: u64) -> (Recorder, Tape) {
    let (sender, receiver) = mpsc::channel(QUEUE_CALLS);
    let why = Arc::new(OnceLock::new());
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    let sender = Arc::new(Mutex::new(Some(sender)));
    let missed = Arc::new(AtomicU64::new(0));
    let recorder = Recorder { sender, room, why: why.clone(), missed: missed.clone(), may_miss };
    (recorder, Tape { receiver, why, missed })
}

/// A call as it was made.
#[derive(Debug)]
pub struct Made {
    /// What was called, and what came of it.
    pub call: Call,
    /// How long it took.
    pub took: Duration,
}

/// A call, and its share of the queue's room.
type Waiting = (Made, OwnedSemaphorePermit);

/// The policy's end. Clones write one recording.
#[derive(Clone)]
pub struct Recorder {
    sender: Arc<Mutex<Option<mpsc::Sender<Waiting>>>>,
    room: Arc<Semaphore>,
    why: Arc<OnceLock<Why>>,
    missed: Arc<AtomicU64>,
    may_miss: u64,
}

impl Recorder {
    /// Whether the recording goes on.
    pub fn is_on(&self) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// Ends the recording, for the first reason that is given.
    pub fn end(&self, why: Why) {
        let _ = self.why.set(why);
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Writes a call. What does not fit is missed, and ends the recording if that may not be.
    pub fn call<A: Serialize, R: Serialize>(
        &self,
        function: &str,
        now: u64,
        arguments: &A,
        answer: Result<&R, &Fault>,
        (fuel, took): (u64, Duration),
    ) {
        if !self.is_on() {
            return;
        }
        match written(function, now, arguments, answer, fuel) {
            Ok(call) => self.put(Made { call, took }),
            Err(_) => self.end(Why::Full),
        }
    }

    fn put(&self, made: Made) {
        let answer = match &made.call.answer {
            Answer::Value(value) => value.len(),
            Answer::Ended(_) => ERROR_MAX,
        };
        let size = u32::try_from(made.call.arguments.len() + answer).unwrap_or(u32::MAX);
        let permit = self.room.clone().try_acquire_many_owned(size).ok();
        let taken = permit.is_some_and(|permit| {
            let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
            sender.as_ref().is_some_and(|sender| sender.try_send((made, permit)).is_ok())
        });
        if !taken && self.missed.fetch_add(1, Ordering::Relaxed) >= self.may_miss {
            self.end(Why::Behind);
        }
    }
}

fn written<A: Serialize, R: Serialize>(
    function: &str,
    now: u64,
    arguments: &A,
    answer: Result<&R, &Fault>,
    fuel: u64,
) -> Outcome<Call> {
    let answer = match answer {
        Ok(value) => Answer::Value(ByteBuf::from(packed::write(value, VALUE_MAX)?)),
        Err(fault) => Answer::Ended(fault.clone()),
    };
    let arguments = ByteBuf::from(packed::write(arguments, VALUE_MAX)?);
    Ok(Call { function: function.to_owned(), now, arguments, answer, fuel })
}

/// The other end. When it goes, the recording ends.
pub struct Tape {
    receiver: mpsc::Receiver<Waiting>,
    why: Arc<OnceLock<Why>>,
    missed: Arc<AtomicU64>,
}

impl Tape {
    /// The next call, as an item of the file; none when there are no more.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let made = self.next_made().await?;
        self.item(made)
    }

    /// The next call, if it has been made.
    pub fn try_next(&mut self) -> Option<Vec<u8>> {
        let made = self.try_next_made()?;
        self.item(made)
    }

    /// The next call as it was made; none when there are no more.
    pub async fn next_made(&mut self) -> Option<Made> {
        self.receiver.recv().await.map(|(made, _)| made)
    }

    /// The next call as it was made, if it has been.
    pub fn try_next_made(&mut self) -> Option<Made> {
        self.receiver.try_recv().ok().map(|(made, _)| made)
    }

    /// Calls that did not fit.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn item(&mut self, made: Made) -> Option<Vec<u8>> {
        let item = item(&Item::Call(made.call));
        item.inspect_err(|_| self.close(Why::Full)).ok()
    }

    /// Takes no more calls; those that were made are still to be read.
    pub fn close(&mut self, why: Why) {
        let _ = self.why.set(why);
        self.receiver.close();
    }

    /// Why there are no more. A policy whose thread is gone has stopped.
    pub fn why(&self) -> Why {
        self.why.get().copied().unwrap_or(Why::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(recorder: &Recorder, bytes: usize) {
        recorder.call("handle", 1, &vec![7_u8; bytes], Ok::<_, &Fault>(&()), (2, Duration::ZERO));
    }

    #[test]
    fn a_reader_that_is_behind_ends_the_recording_and_holds_nobody_up() {
        let (recorder, mut tape) = queue();
        for _ in 0..QUEUE_CALLS {
            call(&recorder, 0);
        }
        assert!(recorder.is_on());
        call(&recorder, 0);
        assert!(!recorder.is_on());
        call(&recorder, 0);
        let mut read = 0;
        while tape.try_next().is_some() {
            read += 1;
        }
        assert_eq!((read, tape.why()), (QUEUE_CALLS, Why::Behind));

        let (recorder, mut tape) = queue();
        for _ in 0..5 {
            call(&recorder, 6 << 20);
        }
        let lengths: Vec<usize> = std::iter::from_fn(|| tape.try_next()).map(|item| item.len()).collect();
        assert_eq!((lengths.len(), tape.why()), (3, Why::Behind));
        assert!(lengths.iter().sum::<usize>() <= QUEUE_BYTES);
    }

    #[test]
    fn a_shadow_misses_some_calls_and_then_no_more() {
        let (recorder, mut feed) = feed();
        for _ in 0..QUEUE_CALLS as u64 + MISSED_MOST {
            call(&recorder, 0);
        }
        assert_eq!((recorder.is_on(), feed.missed()), (true, MISSED_MOST));
        // With room again it goes on.
        assert!(feed.try_next_made().is_some());
        call(&recorder, 0);
        assert_eq!((recorder.is_on(), feed.missed()), (true, MISSED_MOST));
        call(&recorder, 0);
        assert_eq!((recorder.is_on(), feed.why()), (false, Why::Behind));
    }

    #[test]
    fn it_ends_for_the_first_reason_and_what_was_written_is_read() {
        let (recorder, mut tape) = queue();
        call(&recorder, 3);
        tape.close(Why::Time);
        call(&recorder, 3);
        assert!(!recorder.is_on());
        assert!(tape.try_next().is_some() && tape.try_next().is_none());
        recorder.end(Why::Replaced);
        assert_eq!(tape.why(), Why::Time);

        let (recorder, tape) = queue();
        call(&recorder, VALUE_MAX);
        assert_eq!(tape.why(), Why::Full);
        let (recorder, tape) = queue();
        drop(recorder);
        assert_eq!(tape.why(), Why::Stopped);
    }
}
