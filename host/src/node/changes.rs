//! The thread on which what runs is changed: one change after the other, at a low priority.
//!
//! To read, check and start plugins takes milliseconds, or as much as a component that never gets ready is given. On the threads that answer
//! calls, or beside them at their priority, each of those would be added to some call. Here a change takes what time the calls leave, and
//! a tenth of a core where they leave none.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;

use super::Node;
use crate::words::{Code, Fault, Outcome};

/// Changes that wait for their turn; whoever has one more waits with it.
const WAITING: usize = 64;
/// By how much the thread is nicer than others: its share is a ninth of theirs.
const NICER: i32 = 10;

type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread. It ends with this.
pub struct Changes(mpsc::Sender<Change>);

impl Changes {
    /// Begins it. What waits in a change is woken by the runtime that this is called in.
    ///
    /// # Errors
    /// `io` when there can be no thread.
    pub(super) fn begin() -> Outcome<Self> {
        let (sender, mut changes) = mpsc::channel::<Change>(WAITING);
        let runtime = Handle::current();
        let run = move || {
            // Where that is not possible changes cost more, and nothing else is different.
            let _ = rustix::process::nice(NICER);
            runtime.block_on(async {
                while let Some(change) = changes.recv().await {
                    // Whoever waits for it is told that it is gone, and the next one has its turn.
                    let _ = AssertUnwindSafe(change).catch_unwind().await;
                }
            });
        };
        let begun = std::thread::Builder::new().name("changes".to_owned()).spawn(run);
        begun.map_err(|error| Fault::io("cannot start the thread of changes", &error))?;
        Ok(Self(sender))
    }

    /// Makes a change when it is its turn. Dropping this ends it where it waits next, or before it begins.
    ///
    /// # Errors
    /// Those of the change.
    async fn make<T: Send + 'static>(
        &self,
        change: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<T> {
        let (mut asked, made) = oneshot::channel();
        let change = Box::pin(async move {
            let outcome = tokio::select! {
                biased;
                () = asked.closed() => return,
                outcome = change => outcome,
            };
            let _ = asked.send(outcome);
        });
        let gone = || Fault::new(Code::Internal, "the thread of changes has lost one");
        self.0.send(change).await.map_err(|_| gone())?;
        made.await.map_err(|_| gone())?
    }
}

/// Makes a change of a node on its thread of changes: all that holds what is trusted while it writes to the disk is one, so that none of
/// the threads that answer calls ever waits for the disk in it.
///
/// # Errors
/// Those of the change.
pub(super) async fn change<T: Send + 'static, F: Future<Output = Outcome<T>> + Send + 'static>(
    node: &Node,
    change: impl FnOnce(Node) -> F,
) -> Outcome<T> {
    node.changes.make(change(node.clone())).await
}

/// Between two parts of a change, each of which takes less than a millisecond: whoever waits for the core has it before the next one. A
/// kernel that is not told looks only every few milliseconds.
pub(super) fn give_way() {
    std::thread::yield_now();
}

/// Does a part of a change in a task: at the ordinary priority, which threads have as well that begin meanwhile, and to its end.
pub(super) async fn among_calls<T: Send + 'static>(part: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(part).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is gone.
        Err(Err(_)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_come_one_after_the_other_and_outlive_what_goes_wrong_in_one() {
        let changes = Changes::begin().unwrap();
        let (go, wait) = oneshot::channel::<()>();
        let first = changes.make(async move {
            wait.await.unwrap();
            Ok(std::thread::current().name().map(str::to_owned))
        });
        let second = changes.make(async { Ok(2) });
        let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
        assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
        assert!(futures::poll!(&mut second).is_pending());
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap().as_deref(), Some("changes"));
        assert_eq!(second.await, Ok(2));
        let broken = changes.make::<()>(async { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(broken.code, Code::Internal);
        // One that nobody waits for ends where it waits.
        let (held, ended) = oneshot::channel::<()>();
        let endless = changes.make::<()>(async move {
            let _held = held;
            std::future::pending().await
        });
        let mut endless = Box::pin(endless);
        assert!(futures::poll!(&mut endless).is_pending());
        drop(endless);
        assert!(ended.await.is_err());
        assert_eq!(changes.make(async { Ok(3) }).await, Ok(3));
    }
}
