//! A policy in the shadow of the one in force: told the same, asked the same, and nothing of what it wants is done.
//!
//! It listens to the calls of the active one as a recording does ([`super::recorder`]), from that one's start on, and makes them itself on a
//! thread of its own, after they were made there. So the active one waits for nothing, and what its shadow does is over before the next
//! call of the same queue. Timers are its own, and outcomes of what it asked for are those of the active one, where both asked for the
//! same ([`crate::decisions::shadow`]).

mod thread;

use tokio::sync::oneshot;

use super::asks::Asking;
use super::machine::Program;
use super::recorder::Tape;
use crate::clock::Instant;
use crate::words::swap::{ShadowEnd, ShadowFound};
use crate::words::{Code, Fault, Outcome};

/// What came of it.
pub struct Over {
    /// Why it ended.
    pub ended: ShadowEnd,
    /// What it found.
    pub found: ShadowFound,
}

/// A shadow that runs. Dropping it ends it.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    over: oneshot::Receiver<Outcome<Over>>,
}

impl Running {
    /// Asks it to end, for whoever asked has enough.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// What came of it, when it has ended.
    pub async fn over(&mut self) -> Outcome<Over> {
        let gone = || Err(Fault::new(Code::Internal, "the shadow's thread is gone"));
        (&mut self.over).await.unwrap_or_else(|_| gone())
    }
}

/// Starts a shadow that listens to this tape until the deadline, and shows so many differences.
///
/// # Errors
/// `io` when there can be no thread.
pub(super) fn start<K: Asking>(
    program: Program,
    tape: Tape,
    deadline: Instant,
    examples: usize,
) -> Outcome<Running> {
    let fail = |error: std::io::Error| Fault::io("cannot start the thread of a shadow", &error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(fail)?;
    let (stop, stopped) = oneshot::channel();
    let (done, over) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("shadow {}", K::NAME))
        .spawn(move || {
            let shadow = thread::Shadow::<K>::new(program, examples);
            let _ = done.send(runtime.block_on(shadow.run(tape, deadline, stopped)));
        })
        .map_err(fail)?;
    Ok(Running { stop: Some(stop), over })
}

/// Starts one for a policy of the kind.
macro_rules! starts {
    ($($name:ident: $kind:ident),*) => {
        $(
            /// Starts the shadow of a policy of this kind.
            ///
            /// # Errors
            /// `io` when there can be no thread.
            pub fn $name(program: Program, tape: Tape, deadline: Instant, examples: usize) -> Outcome<Running> {
                start::<super::$name::$kind>(program, tape, deadline, examples)
            }
        )*
    };
}
starts!(discovery: Discovery, admission: Admission, routing: Routing, sync: Sync);
