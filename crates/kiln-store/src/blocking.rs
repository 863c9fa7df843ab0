//! The one way from asynchronous code to work that blocks.
//!
//! Tokio starts as many threads for blocking work as are asked for, up to hundreds, and they would fight for the disk and
//! the processors. Here the number of such threads that work is bounded, apart from those that merely wait (for a lock of
//! another process, or for the far side of a stream), which must never keep others from working. The bounds are the
//! process's, as threads are.

use std::panic;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Threads that work at the same time.
const WORKING: usize = 64;

/// Threads that wait for others at the same time.
const WAITING: usize = 256;

/// Threads that have taken over a part of what one of those does. All together these are fewer than the 512 threads that Tokio
/// starts at most.
const HELPING: usize = 128;

static WORK: Semaphore = Semaphore::const_new(WORKING);
static WAITS: Semaphore = Semaphore::const_new(WAITING);
static HELP: Semaphore = Semaphore::const_new(HELPING);

/// Runs work that blocks on a thread where it may: disk, database, hashing, compression. A panic of the work becomes one
/// of the caller.
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    on_thread(&WORK, work).await
}

/// Like [`blocking`], for what may wait for others for a long time: file locks, streams from and to clients.
pub async fn waiting<T, F>(wait: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    on_thread(&WAITS, wait).await
}

/// A thread that can take over a part of what another one does which [waits](waiting), such as a stage of a pipeline.
///
/// Nobody waits for one: if threads that wait for each other also waited for threads, they could do so for ever.
#[derive(Debug)]
pub struct Helper(SemaphorePermit<'static>);

impl Helper {
    /// One, if there is any left.
    pub fn find() -> Option<Self> {
        HELP.try_acquire().ok().map(Self)
    }

    /// Lets it work. A panic of the work becomes one of the caller.
    pub async fn work<T, F>(self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        with_slot(Some(self.0), work).await
    }
}

async fn on_thread<T, F>(slots: &'static Semaphore, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    // The semaphore is never closed.
    with_slot(slots.acquire().await.ok(), work).await
}

/// The slot belongs to the thread: work goes on even if nobody waits for it any more.
async fn with_slot<T, F>(slot: Option<SemaphorePermit<'static>>, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(slot);
        result
    });
    match done.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // The runtime is shutting down and drops this future next.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn no_more_than_the_bound_work_at_once() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..2 * WORKING)
            .map(|_| {
                let (now, most) = (now.clone(), most.clone());
                tokio::spawn(blocking(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                }))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let most = most.load(Ordering::SeqCst);
        assert!(most > 1 && most <= WORKING, "{most} worked at once");
    }

    #[tokio::test]
    async fn work_goes_on_while_others_wait() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let waits: Vec<_> = (0..WAITING)
            .map(|_| {
                let receiver = receiver.clone();
                tokio::spawn(waiting(move || receiver.lock().unwrap().recv().is_err()))
            })
            .collect();
        assert_eq!(blocking(|| 7).await, 7);
        drop(sender);
        for wait in waits {
            wait.await.unwrap();
        }
    }

    #[tokio::test]
    async fn helpers_are_there_or_not_but_never_waited_for() {
        let helpers: Vec<_> = std::iter::from_fn(Helper::find).collect();
        assert_eq!(helpers.len(), HELPING);
        assert!(Helper::find().is_none());
        for helper in helpers {
            assert_eq!(helper.work(|| 7).await, 7);
        }
        assert!(Helper::find().is_some(), "the slots are free again");
    }

    #[tokio::test]
    async fn a_panic_is_the_callers() {
        let task = tokio::spawn(blocking(|| panic!("on purpose")));
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(blocking(|| 1).await, 1, "the slot is free again");
    }
}
