//! What a daemon tells while it works, told on under names of this side's.
//!
//! A daemon counts its activities itself, and two daemons count alike. So each gets a fresh name here. What is left when
//! the operation ends is stopped: nobody else would.

use std::collections::HashMap;

use kiln_events::{ActivityId, Event, EventSender};
use kiln_protocol::worker::LogMessage;

use crate::limits::ACTIVITIES;

/// The activities of one operation.
pub(crate) struct Relay<'a> {
    events: &'a EventSender,
    parent: ActivityId,
    /// The daemon's names, and ours.
    names: HashMap<ActivityId, ActivityId>,
}

impl<'a> Relay<'a> {
    /// Tells on to `events` what is a part of `parent`.
    pub(crate) fn new(events: &'a EventSender, parent: ActivityId) -> Self {
        Self { events, parent, names: HashMap::new() }
    }

    /// Tells on a message.
    ///
    /// # Errors
    /// There are more activities at once than make sense.
    pub(crate) fn tell(&mut self, message: LogMessage) -> Result<(), String> {
        // A report whose fields don't fit its type says nothing.
        let Some(event) = message.into_event() else { return Ok(()) };
        match event {
            Event::Start { id, parent, level, activity, text } => {
                if self.names.len() >= ACTIVITIES {
                    return Err(format!("more than {ACTIVITIES} activities at once"));
                }
                let name = self.events.fresh_id();
                let parent = self.names.get(&parent).copied().unwrap_or(self.parent);
                if let Some(before) = self.names.insert(id, name) {
                    self.events.emit(Event::Stop { id: before });
                }
                self.events.emit(Event::Start { id: name, parent, level, activity, text });
            }
            Event::Stop { id } => {
                if let Some(id) = self.names.remove(&id) {
                    self.events.emit(Event::Stop { id });
                }
            }
            Event::Result { id, result } => {
                if let Some(id) = self.names.get(&id).copied() {
                    self.events.emit(Event::Result { id, result });
                }
            }
            said @ Event::Message { .. } => self.events.emit(said),
        }
        Ok(())
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        for (_, id) in self.names.drain() {
            self.events.emit(Event::Stop { id });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_events::{Activity, ActivityResult, CollectingSink, Verbosity};
    use kiln_protocol::worker::{ResultMessage, StartActivity};

    use super::*;

    fn start(id: u64, parent: u64) -> LogMessage {
        let activity = Activity::Realise;
        LogMessage::StartActivity(StartActivity::new(
            ActivityId(id),
            ActivityId(parent),
            Verbosity::Info,
            &activity,
            "t".into(),
        ))
    }

    #[test]
    fn activities_are_renamed_and_all_stop() {
        let sink = Arc::new(CollectingSink::new());
        let events = EventSender::new(sink.clone());
        let own = events.fresh_id();
        let mut relay = Relay::new(&events, own);
        let phase = ActivityResult::SetPhase("p".into());
        for message in [
            start(7, 0),
            start(8, 7),
            LogMessage::Result(ResultMessage::new(ActivityId(8), &phase)),
            LogMessage::Result(ResultMessage::new(ActivityId(99), &phase)),
            LogMessage::StopActivity(ActivityId(99)),
            start(8, 7),
            LogMessage::StopActivity(ActivityId(8)),
        ] {
            relay.tell(message).unwrap();
        }
        drop(relay);
        let told: Vec<String> = sink.take().iter().map(describe).collect();
        assert_eq!(told, ["+2<1", "+3<2", "=3", "-3", "+4<2", "-4", "-2"]);
    }

    fn describe(event: &Event) -> String {
        match event {
            Event::Start { id, parent, .. } => format!("+{}<{}", id.0, parent.0),
            Event::Stop { id } => format!("-{}", id.0),
            Event::Result { id, .. } => format!("={}", id.0),
            Event::Message { .. } => "message".to_owned(),
        }
    }

    #[test]
    fn endless_activities_are_refused() {
        let events = EventSender::null();
        let mut relay = Relay::new(&events, ActivityId::NONE);
        let told = (1..).map(|id| relay.tell(start(id, 0))).position(|told| told.is_err());
        assert_eq!(told, Some(ACTIVITIES));
    }
}
