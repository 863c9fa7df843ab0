//! Deleting the small things that builds have left, many at once, when builds pause.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use kiln_store::blocking;
use tokio::runtime::Handle;
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
    state: Mutex<State>,
    engine: OnceLock<Weak<Shared>>,
    /// There is no need to wait any longer.
    now: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    task: Option<JoinHandle<()>>,
    /// Something was left when the task had begun to tidy up.
    again: bool,
}

impl Tidier {
    /// Whose builds these are. Until this is said, nothing is done.
    pub(crate) fn serve(&self, engine: &Arc<Shared>) {
        self.engine.get_or_init(|| Arc::downgrade(engine));
    }

    /// Sees to it that it is done some time soon.
    pub(crate) fn later(&self) {
        // Without a runtime the program is ending, and the engine tidies up when it goes.
        let (Some(engine), Ok(runtime)) = (self.engine.get(), Handle::try_current()) else { return };
        let mut state = self.lock();
        if state.task.as_ref().is_some_and(|task| !task.is_finished()) {
            state.again = true;
        } else {
            state.task = Some(runtime.spawn(when_quiet(Weak::clone(engine), Arc::clone(&self.now))));
        }
    }

    /// Does it now. Afterwards nobody holds the engine for this.
    pub(crate) async fn tidy(&self, shared: &Arc<Shared>) {
        let (shared, store) = (Arc::clone(shared), shared.store.clone());
        // To close the database waits for the disk; what is waited for now isn't then. It is no more than that: what has to be on
        // the disk before somebody is told is synced with its commit.
        let waiting = blocking(move || store.database().sync());
        let tidying = async {
            let task = self.lock().task.take();
            if let Some(task) = task {
                self.now.notify_one();
                // A panic has been told already.
                let _ = task.await;
            }
            blocking(move || shared.tidy_up()).await;
        };
        let (_, ()) = tokio::join!(waiting, tidying);
    }

    /// The task has tidied up; whether it has to do so again.
    fn goes_on(&self) -> bool {
        let mut state = self.lock();
        let goes_on = std::mem::take(&mut state.again) && state.task.is_some();
        if !goes_on {
            state.task = None;
        }
        goes_on
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn when_quiet(engine: Weak<Shared>, now: Arc<Notify>) {
    loop {
        let mut count = 0;
        for _ in 0..LOOKS {
            let is_now = tokio::time::timeout(QUIET, now.notified()).await.is_ok();
            // When the engine has gone, so has the trash.
            let Some(shared) = engine.upgrade() else { return };
            let before = std::mem::replace(&mut count, shared.trash.count());
            if is_now || before == count {
                break;
            }
        }
        let Some(shared) = engine.upgrade() else { return };
        shared.tidier.lock().again = false;
        let goes_on = blocking(move || {
            shared.tidy_up();
            shared.tidier.goes_on()
        });
        if !goes_on.await {
            return;
        }
    }
}
