//! What is known now, folded from events.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kiln_events::{Activity, ActivityId, ActivityResult, ActivityType, Event, Text, Verbosity};

use crate::totals::{Progress, Totals, TotalsByType, is_counted};

/// How many running activities are remembered; further ones are not shown.
const MAX_ACTIVITIES: usize = 1 << 16;

/// How much of a line is kept to be shown, in bytes; no window is wider.
const MAX_SHOWN: usize = 2048;

/// An activity that has begun and not ended.
#[derive(Clone, Debug)]
pub struct RunningActivity {
    /// What it is a part of.
    pub parent: ActivityId,
    /// How important its text is.
    pub level: Verbosity,
    /// What it is.
    pub activity: Activity,
    /// Its text.
    pub text: Text,
    /// When it began.
    pub started: Duration,
    /// The phase that it is in, if it said so.
    pub phase: Option<Text>,
    /// The last line of its log, or the last that it said of itself; of a long one, the start.
    pub last_line: Option<Text>,
    progress: Progress,
    announced: HashMap<ActivityType, u64>,
}

impl RunningActivity {
    /// How far it is: done and expected, in its own unit.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let [done, expected, _, _] = self.progress;
        (done, expected)
    }
}

/// The state of all that goes on.
///
/// Times are those of the caller's clock: how long ago something was that is the same for all calls, such as the start of
/// the program.
#[derive(Clone, Debug, Default)]
pub struct ConsoleState {
    /// Running activities in the order in which they began.
    running: BTreeMap<u64, RunningActivity>,
    positions: HashMap<ActivityId, u64>,
    next_position: u64,
    totals: TotalsByType,
    began: Option<Duration>,
}

impl ConsoleState {
    /// Nothing has happened.
    #[must_use]
    pub fn new() -> ConsoleState {
        ConsoleState::default()
    }

    /// Takes note of an event that happens at `now`. Messages change nothing, nor do results and ends of activities that
    /// aren't known.
    pub fn apply(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Start { id, parent, level, activity, text } => {
                self.began.get_or_insert(now);
                self.stop(*id);
                if self.running.len() < MAX_ACTIVITIES {
                    let running = RunningActivity {
                        parent: *parent,
                        level: *level,
                        activity: activity.clone(),
                        text: text.clone(),
                        started: now,
                        phase: None,
                        last_line: None,
                        progress: Progress::default(),
                        announced: HashMap::new(),
                    };
                    self.running.insert(self.next_position, running);
                    self.positions.insert(*id, self.next_position);
                    self.next_position += 1;
                }
            }
            Event::Stop { id } => self.stop(*id),
            Event::Result { id, result } => self.report(*id, result),
            Event::Message { .. } => {}
        }
    }

    fn report(&mut self, id: ActivityId, result: &ActivityResult) {
        let Some(running) = self.positions.get(&id).and_then(|position| self.running.get_mut(position))
        else {
            return;
        };
        match result {
            ActivityResult::BuildLogLine(line)
            | ActivityResult::PostBuildLogLine(line)
            | ActivityResult::FetchStatus(line) => running.last_line = Some(start_of(line)),
            ActivityResult::SetPhase(phase) => running.phase = Some(phase.clone()),
            ActivityResult::Progress { done, expected, running: under_way, failed } => {
                let new = [*done, *expected, *under_way, *failed];
                self.totals.update(running.activity.activity_type(), running.progress, new);
                running.progress = new;
            }
            ActivityResult::SetExpected { activity_type, expected } if is_counted(*activity_type) => {
                let old = running.announced.insert(*activity_type, *expected).unwrap_or(0);
                self.totals.announce(*activity_type, old, *expected);
            }
            ActivityResult::SetExpected { .. }
            | ActivityResult::FileLinked { .. }
            | ActivityResult::UntrustedPath(_)
            | ActivityResult::CorruptedPath(_)
            | ActivityResult::Other { .. } => {}
        }
    }

    fn stop(&mut self, id: ActivityId) {
        let Some(running) = self.positions.remove(&id).and_then(|position| self.running.remove(&position))
        else {
            return;
        };
        self.totals.stop(running.activity.activity_type(), running.progress);
        for (activity_type, expected) in running.announced {
            self.totals.announce(activity_type, expected, 0);
        }
    }

    /// Running activities, in the order in which they began.
    pub fn running(&self) -> impl Iterator<Item = &RunningActivity> {
        self.running.values()
    }

    /// A running activity by name.
    #[must_use]
    pub fn get(&self, id: ActivityId) -> Option<&RunningActivity> {
        self.running.get(self.positions.get(&id)?)
    }

    /// How far all activities of a type are.
    #[must_use]
    pub fn totals(&self, activity_type: ActivityType) -> Totals {
        self.totals.get(activity_type)
    }

    /// For how long activities have been going on: since the first began.
    #[must_use]
    pub fn elapsed(&self, now: Duration) -> Duration {
        now.saturating_sub(self.began.unwrap_or(now))
    }

    /// Whether anything is running.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

fn start_of(line: &Text) -> Text {
    let line = line.as_bytes();
    line.get(..MAX_SHOWN).unwrap_or(line).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start(id: u64, activity: Activity) -> Event {
        let (parent, level) = (ActivityId::NONE, Verbosity::Info);
        Event::Start { id: ActivityId(id), parent, level, text: activity.default_text(), activity }
    }

    fn result(id: u64, result: ActivityResult) -> Event {
        Event::Result { id: ActivityId(id), result }
    }

    fn fold(events: &[Event]) -> ConsoleState {
        let mut state = ConsoleState::new();
        for (second, event) in (0..).zip(events) {
            state.apply(event, Duration::from_secs(second));
        }
        state
    }

    #[test]
    fn a_build_from_start_to_end() {
        let build = Activity::Build { drv: "d".into(), machine: None };
        let mut state = fold(&[
            start(1, Activity::Builds),
            start(2, build.clone()),
            result(1, ActivityResult::Progress { done: 0, expected: 3, running: 1, failed: 0 }),
            result(2, ActivityResult::SetPhase("buildPhase".into())),
            result(2, ActivityResult::BuildLogLine("cc -c x.c".into())),
            result(9, ActivityResult::BuildLogLine("nobody's".into())),
        ]);
        let running = state.get(ActivityId(2)).unwrap();
        assert_eq!((&running.activity, running.started), (&build, Duration::from_secs(1)));
        assert_eq!(running.phase, Some("buildPhase".into()));
        assert_eq!(running.last_line, Some("cc -c x.c".into()));
        assert_eq!(state.totals(ActivityType::BUILDS).waiting(), 2);
        assert_eq!(state.elapsed(Duration::from_secs(9)), Duration::from_secs(9));
        state.apply(&Event::Stop { id: ActivityId(2) }, Duration::from_secs(7));
        state.apply(&Event::Stop { id: ActivityId(2) }, Duration::from_secs(7));
        assert!(state.get(ActivityId(2)).is_none() && !state.is_idle());
    }

    #[test]
    fn expectations_end_with_who_had_them() {
        let expects =
            ActivityResult::SetExpected { activity_type: ActivityType::FILE_TRANSFER, expected: 50 };
        let mut state = fold(&[start(1, Activity::Realise), result(1, expects)]);
        assert_eq!(state.totals(ActivityType::FILE_TRANSFER).expected, 50);
        state.apply(&Event::Stop { id: ActivityId(1) }, Duration::ZERO);
        assert_eq!(state.totals(ActivityType::FILE_TRANSFER).expected, 0);
    }

    proptest! {
        /// Any order of events, with names used twice and unknown ones, leaves nothing behind when all are stopped.
        #[test]
        fn nothing_is_left_behind(events in proptest::collection::vec((0u64..4, 0u8..4, any::<u64>()), 0..60)) {
            let mut state = ConsoleState::new();
            for (id, what, number) in events {
                let event = match what {
                    0 => start(id, Activity::FileTransfer { url: "u".into() }),
                    1 => result(id, ActivityResult::Progress { done: number, expected: number, running: 1, failed: 0 }),
                    2 => result(id, ActivityResult::SetExpected { activity_type: ActivityType::FILE_TRANSFER, expected: number }),
                    _ => Event::Stop { id: ActivityId(id) },
                };
                state.apply(&event, Duration::ZERO);
            }
            (0..4).for_each(|id| state.apply(&Event::Stop { id: ActivityId(id) }, Duration::ZERO));
            prop_assert!(state.is_idle() && state.positions.is_empty());
            let totals = state.totals(ActivityType::FILE_TRANSFER);
            prop_assert_eq!((totals.running, totals.waiting()), (0, 0));
        }
    }
}
