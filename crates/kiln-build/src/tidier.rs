//! Deleting the small things that builds have left, many at once, when builds pause.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use kiln_store::blocking;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::core::Shared;

/// It is done when none has been left for so long ...
const QUIET: Duration = Duration::from_millis(250);
/// ... or after so many times that long.
const LOOKS: u32 = 20;

/// Who does it.
#[derive(Debug, Default)]
pub(crate) struct Tidier {
    task: Mutex<Option<JoinHandle<()>>>,
    /// There is no need to wait any longer.
    now: Arc<Notify>,
}

impl Tidier {
    /// Sees to it that it is done some time soon.
    pub(crate) fn later(&self, shared: &Arc<Shared>) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(when_quiet(Arc::downgrade(shared), Arc::clone(&self.now))));
        }
    }

    /// Does it now. Afterwards nobody holds the engine for this.
    pub(crate) async fn tidy(&self, shared: &Arc<Shared>) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            self.now.notify_one();
            // A panic has been told already.
            let _ = task.await;
        }
        let (shared, store) = (Arc::clone(shared), shared.store.clone());
        // To close the database waits for the disk; what is waited for now isn't then. It is no more than that: what has to be on
        // the disk before somebody is told is synced with its commit.
        let waiting = blocking(move || store.database().sync());
        let (_, _) = tokio::join!(blocking(move || shared.tidy_up()), waiting);
    }
}

async fn when_quiet(shared: Weak<Shared>, now: Arc<Notify>) {
    let mut count = 0;
    for _ in 0..LOOKS {
        let is_now = tokio::time::timeout(QUIET, now.notified()).await.is_ok();
        // When the engine has gone, so has the trash.
        let Some(shared) = shared.upgrade() else { return };
        let before = std::mem::replace(&mut count, shared.trash.count());
        if is_now || before == count {
            break;
        }
    }
    let Some(shared) = shared.upgrade() else { return };
    blocking(move || shared.tidy_up()).await;
}
