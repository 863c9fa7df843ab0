//! One connection, as those see it who watch: its request, and what goes on for it, folded from the events that its client
//! is told of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_events::{Activity, ActivityId, ActivityResult, Event, EventSink, Text, quoted};

use super::now;
use crate::peer::Peer;
use crate::status::{ConnectionStatus, ProgressStatus, RequestStatus, WorkKind};
use kiln_settings::client::Trust;

/// Activities that are noted of one connection; of more than that nothing is told.
const MOST: usize = 4096;

/// Bytes that are kept of a line.
const LINE: usize = 512;

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Watched {
    id: u64,
    user: String,
    uid: u64,
    pid: Option<i32>,
    trusted: bool,
    since: u64,
    request: Mutex<Option<Request>>,
}

/// What the client waits for.
#[derive(Debug)]
struct Request {
    operation: &'static str,
    since: u64,
    progress: BTreeMap<ActivityId, (Counted, ProgressStatus)>,
    waits: BTreeMap<ActivityId, Text>,
    work: BTreeMap<ActivityId, Work>,
    /// Parts of work, whose progress is its.
    parts: BTreeMap<ActivityId, ActivityId>,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Builds,
    Substitutions,
}

/// Something that is being done.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) kind: WorkKind,
    pub(super) path: Text,
    pub(super) place: Option<Text>,
    pub(super) since: u64,
    pub(super) phase: Option<Text>,
    pub(super) last_line: Option<Vec<u8>>,
    pub(super) bytes: Option<(u64, u64)>,
}

impl Watched {
    pub(super) fn new(id: u64, peer: &Peer) -> Self {
        Self {
            id,
            user: quoted(peer.name.as_bytes()),
            uid: peer.user.0,
            pid: peer.pid,
            trusted: peer.trust == Trust::Trusted,
            since: now(),
            request: Mutex::default(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn begin(&self, operation: &'static str) {
        *self.lock() = Some(Request {
            operation,
            since: now(),
            progress: BTreeMap::new(),
            waits: BTreeMap::new(),
            work: BTreeMap::new(),
            parts: BTreeMap::new(),
        });
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// The connection as it is now.
    pub(super) fn status(&self) -> ConnectionStatus {
        ConnectionStatus {
            id: self.id,
            user: self.user.clone(),
            uid: self.uid,
            pid: self.pid,
            trusted: self.trusted,
            since: self.since,
            request: self.lock().as_ref().map(Request::status),
        }
    }

    /// What goes on for it.
    pub(super) fn work(&self) -> Vec<(ActivityId, Work)> {
        let request = self.lock();
        let work = request.iter().flat_map(|request| &request.work);
        work.map(|(id, work)| (*id, work.clone())).collect()
    }

    /// A sink that notes events and passes them on to `client`.
    pub(crate) fn before<S: EventSink>(self: &Arc<Self>, client: Arc<S>) -> Arc<impl EventSink + use<S>> {
        Arc::new(Tap { watched: Arc::clone(self), client })
    }

    fn note(&self, event: &Event) {
        if matches!(event, Event::Message { .. }) {
            return;
        }
        if let Some(request) = &mut *self.lock() {
            request.note(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Request>> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Start { id, parent, activity, text, .. } => self.start(*id, *parent, activity, text),
            Event::Stop { id } => {
                let _ = self.work.remove(id).is_some()
                    || self.parts.remove(id).is_some()
                    || self.waits.remove(id).is_some()
                    || self.progress.remove(id).is_some();
            }
            Event::Result { id, result } => self.result(*id, result),
            Event::Message { .. } => {}
        }
    }

    fn start(&mut self, id: ActivityId, parent: ActivityId, activity: &Activity, text: &Text) {
        let known = self.work.len() + self.parts.len() + self.waits.len() + self.progress.len();
        if known >= MOST {
            return;
        }
        let counter = |counted| (counted, ProgressStatus::default());
        match activity {
            Activity::Builds => drop(self.progress.insert(id, counter(Counted::Builds))),
            Activity::CopyPaths => drop(self.progress.insert(id, counter(Counted::Substitutions))),
            Activity::BuildWaiting { .. } => drop(self.waits.insert(id, clipped(text))),
            Activity::Build { drv, machine } => {
                self.work.insert(id, Work::new(WorkKind::Build, drv, machine.as_ref()));
            }
            Activity::Substitute { path, substituter } => {
                self.work.insert(id, Work::new(WorkKind::Substitution, path, Some(substituter)));
            }
            Activity::PostBuildHook { drv } => {
                self.work.insert(id, Work::new(WorkKind::PostBuildHook, drv, None));
            }
            Activity::CopyPath { .. } if self.work.contains_key(&parent) => {
                self.parts.insert(id, parent);
            }
            _ => {}
        }
    }

    fn result(&mut self, id: ActivityId, result: &ActivityResult) {
        match result {
            ActivityResult::BuildLogLine(line) | ActivityResult::PostBuildLogLine(line) => {
                if let Some(work) = self.work.get_mut(&id) {
                    // The same memory for all lines.
                    let kept = work.last_line.get_or_insert_default();
                    kept.clear();
                    kept.extend(line.as_bytes().iter().take(LINE));
                }
            }
            ActivityResult::SetPhase(phase) => {
                if let Some(work) = self.work.get_mut(&id) {
                    work.phase = Some(clipped(phase));
                }
            }
            ActivityResult::Progress { done, expected, running, failed } => {
                let (done, expected, running, failed) = (*done, *expected, *running, *failed);
                if let Some((_, progress)) = self.progress.get_mut(&id) {
                    *progress = ProgressStatus { done, expected, running, failed };
                } else if let Some(whole) = self.parts.get(&id)
                    && let Some(work) = self.work.get_mut(whole)
                {
                    work.bytes = Some((done, expected));
                }
            }
            _ => {}
        }
    }

    fn status(&self) -> RequestStatus {
        let counted = |counted: Counted| {
            let mut counters = self.progress.values().filter(|(what, _)| *what == counted);
            counters.next_back().map_or(ProgressStatus::default(), |(_, progress)| *progress)
        };
        RequestStatus {
            operation: self.operation.to_owned(),
            since: self.since,
            builds: counted(Counted::Builds),
            substitutions: counted(Counted::Substitutions),
            waits_for: self.waits.values().map(|text| quoted(text.as_bytes())).collect(),
        }
    }
}

impl Work {
    fn new(kind: WorkKind, path: &Text, place: Option<&Text>) -> Self {
        let (path, place) = (clipped(path), place.map(clipped));
        Self { kind, path, place, since: now(), phase: None, last_line: None, bytes: None }
    }
}

/// As much of a text as is kept.
fn clipped(text: &Text) -> Text {
    text.as_bytes().get(..LINE).map_or_else(|| text.clone(), Text::from)
}

/// Notes events on their way to a client.
struct Tap<S> {
    watched: Arc<Watched>,
    client: Arc<S>,
}

impl<S: EventSink> EventSink for Tap<S> {
    fn emit(&self, event: Event) {
        self.watched.note(&event);
        self.client.emit(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_events::{CollectingSink, EventSender, Verbosity};

    fn watched() -> Arc<Watched> {
        let (user, trusted) = ("alice".to_owned(), false);
        let request = Mutex::default();
        Arc::new(Watched { id: 3, user, uid: 1000, pid: Some(7), trusted, since: 0, request })
    }

    fn events(watched: &Arc<Watched>) -> (EventSender, Arc<CollectingSink>) {
        let client = Arc::new(CollectingSink::new());
        (EventSender::new(watched.before(Arc::clone(&client))), client)
    }

    #[test]
    fn what_goes_on_is_noted_and_passed_on() {
        let watched = watched();
        let (events, client) = events(&watched);
        watched.begin("BuildPaths");
        let counter = events.start(ActivityId::NONE, Verbosity::Error, Activity::Builds);
        counter.progress(1, 4, 1, 0);
        let drv = || Text::from("/nix/store/x-a.drv");
        let build = Activity::Build { drv: drv(), machine: None };
        let build = events.start(ActivityId::NONE, Verbosity::Info, build);
        build.result(ActivityResult::SetPhase("buildPhase".into()));
        build.result(ActivityResult::BuildLogLine("first, which is longer".into()));
        build.result(ActivityResult::BuildLogLine("second".into()));
        let waiting = events.start_with_text(
            ActivityId::NONE,
            Verbosity::Warn,
            Activity::BuildWaiting { resolved: None },
            "waiting for a\nlock",
        );
        let status = watched.status();
        let request = status.request.unwrap();
        assert_eq!((request.builds.done, request.builds.expected), (1, 4));
        assert_eq!(request.waits_for, ["waiting for alock"]);
        let work = watched.work();
        assert_eq!(work.len(), 1);
        assert_eq!(work[0].1.last_line.as_deref(), Some(&b"second"[..]));
        assert_eq!(work[0].1.phase, Some("buildPhase".into()));
        drop((build, waiting, counter));
        assert!(watched.work().is_empty());
        assert_eq!(client.take().len(), 10, "the client is told of everything");
        watched.end();
        assert_eq!(watched.status().request, None);
    }

    #[test]
    fn the_progress_of_a_part_is_that_of_the_whole() {
        let watched = watched();
        let (events, _client) = events(&watched);
        watched.begin("EnsurePath");
        let whole = Activity::Substitute { path: "/nix/store/x-a".into(), substituter: "http://c".into() };
        let whole = events.start(ActivityId::NONE, Verbosity::Error, whole);
        let part =
            Activity::CopyPath { path: "p".into(), source: "http://c".into(), destination: "local".into() };
        let part = whole.start(Verbosity::Info, part);
        part.progress(10, 100, 0, 0);
        let work = watched.work().remove(0).1;
        assert_eq!((work.kind, work.bytes), (WorkKind::Substitution, Some((10, 100))));
    }

    #[test]
    fn nobody_makes_it_remember_much() {
        let watched = watched();
        let (events, _client) = events(&watched);
        watched.begin("BuildPaths");
        let long = "x".repeat(100_000);
        let guards: Vec<_> = (0..2 * MOST)
            .map(|_| {
                let build = Activity::Build { drv: long.as_str().into(), machine: None };
                events.start(ActivityId::NONE, Verbosity::Info, build)
            })
            .collect();
        guards[0].result(ActivityResult::BuildLogLine(long.as_str().into()));
        let work = watched.work();
        assert_eq!(work.len(), MOST);
        assert_eq!(work[0].1.path.as_bytes().len(), LINE);
        assert_eq!(work[0].1.last_line.as_ref().unwrap().len(), LINE);
    }

    #[test]
    fn between_requests_nothing_is_noted() {
        let watched = watched();
        let (events, client) = events(&watched);
        let _build = events.start(ActivityId::NONE, Verbosity::Error, Activity::Builds);
        assert!(watched.status().request.is_none());
        assert_eq!(client.take().len(), 1);
    }
}
