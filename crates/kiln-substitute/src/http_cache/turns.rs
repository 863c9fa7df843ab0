//! Who may send the next request to a server: only so many at once. Of those who wait, large files come first, since they take
//! longest and nobody should have to wait for them at the end; otherwise, whoever came first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

/// The requests to one server.
pub(super) struct Turns(Mutex<State>);

struct State {
    free: usize,
    /// Of those, how many large files may have.
    free_for_large: usize,
    large: VecDeque<oneshot::Sender<Permit>>,
    small: VecDeque<oneshot::Sender<Permit>>,
}

/// Leave for one request; it goes to the next one when this is dropped.
pub(super) struct Permit {
    size: Size,
    /// Nothing if it was refused.
    turns: Option<Arc<Turns>>,
}

impl Turns {
    /// At most `total` requests at once, and of those `large` for large files.
    pub(super) fn new(total: usize, large: usize) -> Arc<Self> {
        let (free, free_for_large) = (total, large);
        Arc::new(Self(Mutex::new(State {
            free,
            free_for_large,
            large: VecDeque::new(),
            small: VecDeque::new(),
        })))
    }

    /// Waits for leave. Dropping the future gives up the place in the queue.
    pub(super) async fn take(self: &Arc<Self>, size: Size) -> Permit {
        let (sender, granted) = oneshot::channel();
        {
            let mut state = self.lock();
            state.queue(size).push_back(sender);
            self.grant(&mut state);
        }
        granted.await.unwrap_or_else(|_| unreachable!("those who wait are dropped only when they are served"))
    }

    /// Gives away what is free.
    fn grant(self: &Arc<Self>, state: &mut State) {
        while let Some((size, waiting)) = state.next() {
            match waiting.send(Permit { size, turns: Some(Arc::clone(self)) }) {
                Ok(()) => state.count(size, |free| free - 1),
                // Nobody waits any more.
                Err(mut permit) => permit.turns = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers and queues are whole at every moment at which a panic could strike.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn queue(&mut self, size: Size) -> &mut VecDeque<oneshot::Sender<Permit>> {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }

    /// Who is served next, if something is free.
    fn next(&mut self) -> Option<(Size, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        let large = if self.free_for_large > 0 { self.large.pop_front() } else { None };
        match large {
            Some(waiting) => Some((Size::Large, waiting)),
            None => Some((Size::Small, self.small.pop_front()?)),
        }
    }

    fn count(&mut self, size: Size, change: impl Fn(usize) -> usize) {
        self.free = change(self.free);
        if size == Size::Large {
            self.free_for_large = change(self.free_for_large);
        }
    }
}

impl Permit {
    /// What it is for.
    pub(super) const fn size(&self) -> Size {
        self.size
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            let mut state = turns.lock();
            state.count(self.size, |free| free + 1);
            turns.grant(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    fn begin(turns: &Arc<Turns>, size: Size) -> (BoxFuture<'static, Permit>, Option<Permit>) {
        let turns = Arc::clone(turns);
        let mut waiting = async move { turns.take(size).await }.boxed();
        let granted = (&mut waiting).now_or_never();
        (waiting, granted)
    }

    #[test]
    fn large_files_come_first_and_leave_some_for_small_ones() {
        let turns = Turns::new(3, 2);
        let first = begin(&turns, Size::Small).1.unwrap();
        let second = begin(&turns, Size::Large).1.unwrap();
        let third = begin(&turns, Size::Small).1.unwrap();
        let (mut small, none) = begin(&turns, Size::Small);
        assert!(none.is_none(), "three at once");
        let (mut large, _) = begin(&turns, Size::Large);
        let (mut larger, _) = begin(&turns, Size::Large);
        drop(third);
        let large =
            (&mut large).now_or_never().expect("it comes before the small one, which was there first");
        drop(first);
        assert!((&mut larger).now_or_never().is_none(), "two large ones are enough");
        assert!((&mut small).now_or_never().is_some());
        drop(second);
        assert!((&mut larger).now_or_never().is_some());
        drop(large);
    }

    #[test]
    fn nothing_is_lost_with_those_who_give_up() {
        let turns = Turns::new(1, 1);
        let only = begin(&turns, Size::Large).1.unwrap();
        let (gives_up, _) = begin(&turns, Size::Large);
        let (is_late, _) = begin(&turns, Size::Small);
        let (mut waits, _) = begin(&turns, Size::Small);
        drop(gives_up);
        drop(only);
        // This one has got it, and does not know yet.
        drop(is_late);
        assert!((&mut waits).now_or_never().is_some());
    }
}
