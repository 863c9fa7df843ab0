//! Who is told what happens in a goal: all requests that want it, whenever they came, and however far above it.
//!
//! A request has a [`Listener`]. A goal has an [`Audience`], which takes over the listeners of the audiences of all who
//! want the goal, and passes on to the goals below it those that come later. Who joins late is told what is under way.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kiln_events::{ActivityId, Event, EventSender, EventSink};

use crate::counters::{Counters, Work};

/// One request, as long as it lasts. When it is dropped, what it was told of and what has not ended ends for it.
#[derive(Debug)]
pub(crate) struct Listener {
    events: EventSender,
    counters: Counters,
    /// Activities that it knows of.
    open: Mutex<HashSet<ActivityId>>,
    /// What it has been warned of.
    warned: Mutex<HashSet<String>>,
}

impl Listener {
    /// One who has been `warned` of some matters before.
    pub(crate) fn new(events: &EventSender, warned: HashSet<String>) -> Arc<Self> {
        let (events, counters) = (events.clone(), Counters::new(events));
        Arc::new(Self { events, counters, open: Mutex::default(), warned: Mutex::new(warned) })
    }

    fn emit(&self, event: Event) {
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match &event {
                Event::Start { id, .. } => drop(open.insert(*id)),
                Event::Stop { id } => drop(open.remove(id)),
                Event::Result { .. } | Event::Message { .. } => {}
            }
        }
        self.events.emit(event);
    }

    fn warn_of(&self, matter: &str, text: &str) {
        let is_news = self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(matter.to_owned());
        if is_news {
            self.events.warn(text);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for id in open {
            self.events.emit(Event::Stop { id });
        }
    }
}

/// Those who are told what happens in a goal.
#[derive(Debug)]
pub(crate) struct Audience {
    members: Mutex<Members>,
    /// Who is told what is said when nobody listens any more.
    owner: EventSender,
}

#[derive(Debug, Default)]
struct Members {
    listeners: HashMap<usize, Weak<Listener>>,
    /// The audiences of goals that this one's goal wants.
    below: Vec<Weak<Audience>>,
    /// Beginnings of the activities that are under way.
    open: HashMap<ActivityId, Event>,
    /// What the goal is expected to do, or does.
    work: Option<Work>,
}

impl Audience {
    pub(crate) fn new(owner: &EventSender) -> Arc<Self> {
        Arc::new(Self { members: Mutex::default(), owner: owner.clone() })
    }

    /// Adds a listener, here and below.
    pub(crate) fn add(self: &Arc<Self>, listener: &Arc<Listener>) {
        self.add_all(std::slice::from_ref(listener));
    }

    /// All who listen here, now and later, listen to the audience `below`, too.
    pub(crate) fn include(&self, below: &Arc<Self>) {
        let listeners = self.with(|members| {
            members.below.push(Arc::downgrade(below));
            // Now and then, so that many wishes cost each no more than few.
            if members.below.len().is_power_of_two() {
                members.below.retain(|audience| audience.strong_count() > 0);
            }
            members.listening()
        });
        below.add_all(&listeners);
    }

    fn add_all(self: &Arc<Self>, listeners: &[Arc<Listener>]) {
        // Not by recursion: chains of goals are long.
        let mut audiences = vec![(Arc::clone(self), listeners.to_vec())];
        while let Some((audience, listeners)) = audiences.pop() {
            audience.with(|members| {
                let new: Vec<Arc<Listener>> =
                    listeners.into_iter().filter(|listener| members.join(listener)).collect();
                if !new.is_empty() {
                    let below = members.below.iter().filter_map(Weak::upgrade);
                    audiences.extend(below.map(|audience| (audience, new.clone())));
                }
            });
        }
    }

    /// Warns those who listen and have not been warned of the same matter before, in this goal or another one.
    pub(crate) fn warn_of(&self, matter: &str, text: &str) {
        let listening = self.with(|members| members.listening());
        listening.iter().for_each(|listener| listener.warn_of(matter, text));
    }

    /// Counts the goal's work among what is expected by all who listen, for as long as the answer lives, or until it is
    /// counted as ended. A goal has one work at a time.
    pub(crate) fn expect(self: &Arc<Self>, work: Work) -> ExpectedWork {
        self.with(|members| members.change(Some(work)));
        ExpectedWork(Arc::clone(self))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Members) -> T) -> T {
        f(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Members {
    fn listening(&self) -> Vec<Arc<Listener>> {
        self.listeners.values().filter_map(Weak::upgrade).collect()
    }

    /// Takes in a listener and tells it what is under way; `false` if it is known.
    fn join(&mut self, listener: &Arc<Listener>) -> bool {
        // The address is another one's only after this one has gone, and then the entry is dead.
        let address = Arc::as_ptr(listener).addr();
        if self.listeners.get(&address).is_some_and(|known| known.strong_count() > 0) {
            return false;
        }
        self.listeners.retain(|_, listener| listener.strong_count() > 0);
        self.listeners.insert(address, Arc::downgrade(listener));
        // In the order of their names: parts after the whole.
        let mut open: Vec<(&ActivityId, &Event)> = self.open.iter().collect();
        open.sort_unstable_by_key(|(id, _)| id.0);
        open.into_iter().for_each(|(_, event)| listener.emit(event.clone()));
        if self.work.is_some() {
            listener.counters.change(None, self.work.as_ref());
        }
        true
    }

    fn change(&mut self, now: Option<Work>) {
        let before = std::mem::replace(&mut self.work, now);
        if before != now {
            let listening = self.listening();
            listening.iter().for_each(|listener| listener.counters.change(before.as_ref(), now.as_ref()));
        }
    }
}

impl EventSink for Audience {
    fn emit(&self, event: Event) {
        // Told under the lock, so that who joins meanwhile misses nothing and is told nothing twice.
        self.with(|members| {
            match &event {
                Event::Start { id, .. } => drop(members.open.insert(*id, event.clone())),
                Event::Stop { id } => drop(members.open.remove(id)),
                Event::Result { .. } | Event::Message { .. } => {}
            }
            let mut listening = members.listening();
            match listening.pop() {
                Some(last) => {
                    listening.iter().for_each(|listener| listener.emit(event.clone()));
                    last.emit(event);
                }
                None if matches!(event, Event::Message { .. }) => self.owner.emit(event),
                None => {}
            }
        });
    }
}

/// What a goal is expected to do, and from [`ExpectedWork::start`] on does.
#[derive(Debug)]
pub(crate) struct ExpectedWork(Arc<Audience>);

impl ExpectedWork {
    /// It begins.
    pub(crate) fn start(&mut self) {
        self.set_running(true);
    }

    /// It has stopped, and may begin anew.
    pub(crate) fn pause(&mut self) {
        self.set_running(false);
    }

    fn set_running(&mut self, runs: bool) {
        self.0.with(|members| members.change(members.work.map(|work| work.running(runs))));
    }

    /// Something else is expected in its place.
    pub(crate) fn replace(&mut self, work: Work) {
        self.0.with(|members| members.change(Some(work)));
    }

    /// It has ended. What only lacked a dependency is dropped instead, and counts as neither done nor failed.
    pub(crate) fn end(self, success: bool) {
        self.0.with(|members| {
            if let Some(work) = members.work.take() {
                members.listening().iter().for_each(|listener| listener.counters.end(&work, success));
            }
        });
    }
}

impl Drop for ExpectedWork {
    fn drop(&mut self) {
        self.0.with(|members| members.change(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Size;
    use kiln_events::{Activity, ActivityResult, CollectingSink, Verbosity};

    fn listener() -> (Arc<Listener>, Arc<CollectingSink>) {
        let sink = Arc::new(CollectingSink::new());
        let listener = Listener::new(&EventSender::new(sink.clone()), HashSet::new());
        let _counters = sink.take();
        (listener, sink)
    }

    fn audience() -> (Arc<Audience>, EventSender, Arc<CollectingSink>) {
        let sink = Arc::new(CollectingSink::new());
        let owner = EventSender::with_first_id(sink.clone(), 100);
        let audience = Audience::new(&owner);
        (audience.clone(), owner.with_sink(audience), sink)
    }

    fn names(events: &[Event]) -> Vec<String> {
        let name = |event: &Event| match event {
            Event::Start { text, .. } => format!("start {text}"),
            Event::Stop { .. } => "stop".to_owned(),
            Event::Message { .. } => "message".to_owned(),
            Event::Result {
                result: ActivityResult::Progress { done, expected, running, failed }, ..
            } => {
                format!("{done} {expected} {running} {failed}")
            }
            Event::Result { .. } => "result".to_owned(),
        };
        // The counters that are always zero are left out.
        events.iter().map(name).filter(|name| name != "0 0 0 0" && name != "result").collect()
    }

    fn build(events: &EventSender) -> kiln_events::ActivityGuard {
        events.start(ActivityId::NONE, Verbosity::Info, Activity::Build { drv: "d".into(), machine: None })
    }

    #[test]
    fn s1_who_joins_late_is_told_what_is_under_way() {
        let (audience, events, _) = audience();
        let (first, first_sink) = listener();
        audience.add(&first);
        let running = build(&events);
        let (second, second_sink) = listener();
        audience.add(&second);
        audience.add(&second);
        events.message(Verbosity::Info, "both hear this once");
        drop(running);
        let told = ["start building 'd'", "message", "stop"];
        assert_eq!(names(&first_sink.take()), told);
        assert_eq!(names(&second_sink.take()), told);
    }

    #[test]
    fn s1_listeners_reach_what_is_below_however_deep() {
        let (top, _, _) = audience();
        let mut audiences = vec![top.clone()];
        let mut deepest = None;
        for _ in 0..10_000 {
            let (below, events, _) = audience();
            audiences.last().unwrap().include(&below);
            audiences.push(below);
            deepest = Some(events);
        }
        let (listener, sink) = listener();
        top.add(&listener);
        deepest.unwrap().message(Verbosity::Info, "from below");
        assert_eq!(names(&sink.take()), ["message"]);
    }

    #[test]
    fn s5_for_a_request_that_is_over_everything_has_ended() {
        let (audience, events, owner) = audience();
        let (first, sink) = listener();
        audience.add(&first);
        let running = build(&events);
        drop(first);
        events.message(Verbosity::Info, "nobody listens but the owner");
        drop(running);
        let told = names(&sink.take());
        assert_eq!(
            told.iter().filter(|name| *name == "stop").count(),
            4,
            "the build and the three counters: {told:?}"
        );
        assert_eq!(names(&owner.take()), ["message"]);
    }

    #[test]
    fn g2_who_listens_to_many_goals_is_warned_of_a_matter_once() {
        let ((one, ..), (other, ..)) = (audience(), audience());
        let (first, first_sink) = listener();
        one.add(&first);
        other.add(&first);
        one.warn_of("cache", "the cache is away");
        let (second, second_sink) = listener();
        other.add(&second);
        other.warn_of("cache", "the cache is still away");
        other.warn_of("elsewhere", "so is the other one");
        assert_eq!(names(&first_sink.take()), ["message", "message"]);
        assert_eq!(names(&second_sink.take()), ["message", "message"], "who came later has not heard of it");
    }

    #[test]
    fn s10_a_build_counts_for_all_who_want_it() {
        let (audience, _, _) = audience();
        let (first, first_sink) = listener();
        audience.add(&first);
        let mut expected = audience.expect(Work::BUILD);
        expected.start();
        let (second, second_sink) = listener();
        audience.add(&second);
        expected.end(true);
        assert_eq!(names(&first_sink.take()), ["0 1 0 0", "0 1 1 0", "1 1 0 0"]);
        assert_eq!(names(&second_sink.take()), ["0 1 1 0", "1 1 0 0"]);
    }

    #[test]
    fn s10_g7_a_substitution_counts_with_the_sizes_that_are_stated() {
        let (audience, _, _) = audience();
        let (listener, sink) = listener();
        audience.add(&listener);
        let stated = |download, nar| Work::substitution(Size { download, nar });
        let mut expected = audience.expect(stated(10, 100));
        expected.start();
        expected.pause();
        // The next substituter states something else.
        expected.replace(stated(20, u64::MAX));
        expected.end(true);
        // Others are given up, or fail.
        drop(audience.expect(stated(7, 7)));
        audience.expect(stated(5, 5)).end(false);
        let sizes = |event: &Event| match event {
            Event::Result { result: ActivityResult::SetExpected { expected, .. }, .. } => Some(*expected),
            _ => None,
        };
        let events = sink.take();
        let told: Vec<u64> = events.iter().filter_map(sizes).collect();
        let most = u64::MAX;
        let (first, second) = ([10, 100], [20, most]);
        let all = [first, first, first, second, second, [27, most], second, [25, most], second];
        assert_eq!(told, all.concat());
        let numbers = ["0 1 0 0", "0 1 1 0", "0 1 0 0", "0 1 0 0", "1 1 0 0", "1 2 0 0", "1 1 0 0"];
        let numbers = [&numbers[..], &["1 2 0 0", "1 1 0 1"]].concat();
        assert_eq!(names(&events), numbers);
    }
}
