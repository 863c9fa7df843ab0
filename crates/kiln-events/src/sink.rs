//! Who listens to events.

use std::sync::{Arc, Mutex, PoisonError};

use crate::event::Event;

/// Somebody who listens.
///
/// `emit` is called from whatever thread something happens on, also from those that must not wait: it should return at
/// once, and must not call back into what emits.
pub trait EventSink: Send + Sync {
    /// Takes note of an event.
    fn emit(&self, event: Event);
}

impl<S: EventSink + ?Sized> EventSink for Arc<S> {
    fn emit(&self, event: Event) {
        (**self).emit(event);
    }
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink;

impl EventSink for NullSink {
    fn emit(&self, _event: Event) {}
}

/// Several listen; each gets every event, in the order in which they were named.
#[derive(Clone, Default)]
pub struct Fanout {
    sinks: Vec<Arc<dyn EventSink>>,
}

impl Fanout {
    /// A fan-out to these sinks.
    #[must_use]
    pub fn new(sinks: Vec<Arc<dyn EventSink>>) -> Fanout {
        Fanout { sinks }
    }
}

impl EventSink for Fanout {
    fn emit(&self, event: Event) {
        if let Some((last, others)) = self.sinks.split_last() {
            for sink in others {
                sink.emit(event.clone());
            }
            last.emit(event);
        }
    }
}

/// Keeps all events, for tests and for reports that are made at the end.
#[derive(Debug, Default)]
pub struct CollectingSink {
    events: Mutex<Vec<Event>>,
}

impl CollectingSink {
    /// An empty collection.
    #[must_use]
    pub fn new() -> CollectingSink {
        CollectingSink::default()
    }

    /// What was collected so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes out what was collected so far.
    #[must_use]
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventSink for CollectingSink {
    fn emit(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Verbosity;

    #[test]
    fn a_fanout_tells_everybody() {
        let (first, second) = (Arc::new(CollectingSink::new()), Arc::new(CollectingSink::new()));
        let fanout = Fanout::new(vec![first.clone(), Arc::new(NullSink), second.clone()]);
        fanout.emit(Event::message(Verbosity::Info, "a"));
        fanout.emit(Event::message(Verbosity::Warn, "b"));
        assert_eq!(first.events().len(), 2);
        assert_eq!(first.events(), second.take());
        assert!(second.events().is_empty());
    }
}
