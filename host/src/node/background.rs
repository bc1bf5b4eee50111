//! Tasks that go on by themselves after whoever began them has his answer. They end with the node.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

/// The tasks.
#[derive(Default)]
pub struct Background(Mutex<JoinSet<()>>);

impl Background {
    /// Begins one. They are few: each change of what runs has one or two, for as long as it is being watched.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all of them.
    pub fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
