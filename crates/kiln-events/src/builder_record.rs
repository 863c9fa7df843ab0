//! `@nix {…}` lines that builders and build hooks write into their output (behaviour L3).
//!
//! Whoever writes such a line may be hostile. From a builder only what cannot do harm takes effect: it may name its
//! phase, say something, and show transfers of its own. Its names for activities are its own too: they are replaced by
//! fresh ones. The build hook is our own program, and all its records are taken.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::activity::{Activity, ActivityId, ActivityType, Field};
use crate::activity_result::ActivityResult;
use crate::event::{Event, Verbosity};
use crate::internal_json::PREFIX;
use crate::sender::{ActivityGuard, EventSender};
use crate::text::Text;

/// How many activities one builder or hook may have under way; more are not shown.
const MAX_OPEN: usize = 1024;

/// Who wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordSource {
    /// Code of a derivation: not trusted.
    Builder,
    /// Our build hook: trusted.
    BuildHook,
}

/// One record, well-formed but not yet judged by who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuilderRecord {
    /// The build enters a phase.
    SetPhase(Text),
    /// Something to say.
    Message {
        /// How important.
        level: Verbosity,
        /// What.
        text: Text,
    },
    /// An activity begins.
    Start {
        /// The writer's own name for it.
        id: u64,
        /// How important its text is.
        level: Verbosity,
        /// What it is.
        activity: Activity,
        /// Its text.
        text: Text,
    },
    /// An activity reports something.
    Result {
        /// The writer's own name for the activity.
        id: u64,
        /// What it reports; `None` if the fields don't fit the type.
        result: Option<ActivityResult>,
    },
    /// An activity ends.
    Stop {
        /// The writer's own name for it.
        id: u64,
    },
}

/// Why a line that begins like a record is none. It is then an ordinary log line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or nested too deep.
    #[error("bad JSON log message: {0}")]
    Json(String),
    /// JSON, but not what a record has to be.
    #[error("unable to handle a JSON log message: {0}")]
    Record(String),
}

impl BuilderRecord {
    /// The record in a log line; `None` if the line doesn't begin like one.
    pub fn parse(line: &[u8]) -> Option<Result<BuilderRecord, RecordError>> {
        Some(parse_object(line.strip_prefix(PREFIX.as_bytes())?))
    }
}

/// Parses what follows the prefix. Depth is bounded by `serde_json` (128), size by the length of a line.
fn parse_object(json: &[u8]) -> Result<BuilderRecord, RecordError> {
    let value: Value = serde_json::from_slice(json).map_err(|error| RecordError::Json(error.to_string()))?;
    let Value::Object(object) = value else {
        return Err(RecordError::Record("expected an object".into()));
    };
    match string(&object, "action")? {
        "setPhase" => Ok(BuilderRecord::SetPhase(string(&object, "phase")?.into())),
        "msg" => Ok(BuilderRecord::Message { level: level(&object)?, text: string(&object, "msg")?.into() }),
        "start" => Ok(BuilderRecord::Start {
            id: integer(&object, "id")?,
            level: level(&object)?,
            activity: Activity::from_fields(ActivityType(integer(&object, "type")?), fields(&object)?),
            text: string(&object, "text")?.into(),
        }),
        "result" => Ok(BuilderRecord::Result {
            id: integer(&object, "id")?,
            result: ActivityResult::from_fields(integer(&object, "type")?, fields(&object)?),
        }),
        "stop" => Ok(BuilderRecord::Stop { id: integer(&object, "id")? }),
        _ => Err(RecordError::Record("unknown action".into())),
    }
}

fn string<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, RecordError> {
    let value = object.get(key).and_then(Value::as_str);
    value.ok_or_else(|| RecordError::Record(format!("expected a string as '{key}'")))
}

fn integer(object: &Map<String, Value>, key: &str) -> Result<u64, RecordError> {
    let value = object.get(key).and_then(Value::as_u64);
    value.ok_or_else(|| RecordError::Record(format!("expected a non-negative integer as '{key}'")))
}

fn level(object: &Map<String, Value>) -> Result<Verbosity, RecordError> {
    integer(object, "level").map(Verbosity::from_number)
}

fn fields(object: &Map<String, Value>) -> Result<Vec<Field>, RecordError> {
    let wrong = || RecordError::Record("expected non-negative integers and strings as 'fields'".into());
    let elements = match object.get("fields") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(elements)) => elements,
        Some(_) => return Err(wrong()),
    };
    let field = |element: &Value| match element {
        Value::Number(number) => number.as_u64().map(Field::Int).ok_or_else(wrong),
        Value::String(text) => Ok(Field::Text(text.as_str().into())),
        _ => Err(wrong()),
    };
    elements.iter().map(field).collect()
}

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handling {
    /// A record, and dealt with: not a log line.
    Handled,
    /// Log text.
    LogLine,
    /// Log text that looks like a record but is none.
    Malformed(RecordError),
}

/// Turns the records of one builder or hook into events below one activity.
#[derive(Debug)]
pub struct BuilderActivities {
    sender: EventSender,
    /// The build that the records belong to.
    build: ActivityId,
    source: RecordSource,
    open: HashMap<u64, ActivityGuard>,
}

impl BuilderActivities {
    /// Records from `source` that belong to the activity `build`. What is still open when this is dropped, stops.
    #[must_use]
    pub fn new(sender: EventSender, build: ActivityId, source: RecordSource) -> BuilderActivities {
        BuilderActivities { sender, build, source, open: HashMap::new() }
    }

    /// Looks at a line (without its newline) and, if it is a record, lets it take what effect it may have.
    pub fn handle(&mut self, line: &[u8]) -> Handling {
        match BuilderRecord::parse(line) {
            None => Handling::LogLine,
            Some(Err(error)) => Handling::Malformed(error),
            Some(Ok(record)) => {
                self.apply(record);
                Handling::Handled
            }
        }
    }

    /// Lets a record take what effect it may have.
    pub fn apply(&mut self, record: BuilderRecord) {
        match record {
            BuilderRecord::SetPhase(phase) => {
                self.sender.emit(Event::Result { id: self.build, result: ActivityResult::SetPhase(phase) });
            }
            BuilderRecord::Message { level, text } => self.sender.message(level, text),
            BuilderRecord::Start { id, level, activity, text } => {
                if self.may_start(&activity) && (self.open.len() < MAX_OPEN || self.open.contains_key(&id)) {
                    let guard = self.sender.start_with_text(self.build, level, activity, text);
                    self.open.insert(id, guard);
                }
            }
            BuilderRecord::Result { id, result } => {
                if let (Some(activity), Some(result)) = (self.open.get(&id), result)
                    && self.may_report(&result)
                {
                    activity.result(result);
                }
            }
            BuilderRecord::Stop { id } => drop(self.open.remove(&id)),
        }
    }

    fn may_start(&self, activity: &Activity) -> bool {
        self.source == RecordSource::BuildHook || matches!(activity, Activity::FileTransfer { .. })
    }

    /// The other results would count as the daemon's own: corrupted paths, saved bytes, other builds' log lines.
    fn may_report(&self, result: &ActivityResult) -> bool {
        self.source == RecordSource::BuildHook
            || matches!(result, ActivityResult::Progress { .. } | ActivityResult::FetchStatus(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::CollectingSink;
    use proptest::prelude::*;
    use std::sync::Arc;

    const BUILD: ActivityId = ActivityId(9);

    fn handle(source: RecordSource, lines: &[&str]) -> (Vec<Handling>, Vec<Event>) {
        let sink = Arc::new(CollectingSink::new());
        let sender = EventSender::with_first_id(sink.clone(), 100);
        let mut activities = BuilderActivities::new(sender, BUILD, source);
        let handlings = lines.iter().map(|line| activities.handle(line.as_bytes())).collect();
        drop(activities);
        (handlings, sink.take())
    }

    const START: &str =
        r#"@nix {"action":"start","id":1,"level":3,"type":101,"text":"downloading","fields":["http://x/y"]}"#;

    #[test]
    fn l3_a_builder_may_show_its_phase_messages_and_transfers() {
        let (handlings, events) = handle(
            RecordSource::Builder,
            &[
                r#"@nix {"action":"setPhase","phase":"buildPhase"}"#,
                r#"@nix {"action":"msg","level":1,"msg":"hello"}"#,
                START,
                r#"@nix {"action":"result","id":1,"type":105,"fields":[1,2,0,0]}"#,
                "plain @nix {}",
            ],
        );
        let (done, started) = (Handling::Handled, ActivityId(100));
        assert_eq!(handlings, [done.clone(), done.clone(), done.clone(), done, Handling::LogLine]);
        assert_eq!(
            events,
            [
                Event::Result { id: BUILD, result: ActivityResult::SetPhase("buildPhase".into()) },
                Event::message(Verbosity::Warn, "hello"),
                Event::Start {
                    id: started,
                    parent: BUILD,
                    level: Verbosity::Info,
                    activity: Activity::FileTransfer { url: "http://x/y".into() },
                    text: "downloading".into()
                },
                Event::Result {
                    id: started,
                    result: ActivityResult::Progress { done: 1, expected: 2, running: 0, failed: 0 }
                },
                Event::Stop { id: started },
            ]
        );
    }

    /// Nothing that counts as the daemon's own, and no name of an activity that isn't this builder's.
    #[test]
    fn l3_a_builder_may_do_no_more() {
        let lines = [
            r#"@nix {"action":"start","id":1,"level":0,"type":105,"text":"building","fields":["d","",1,1]}"#,
            r#"@nix {"action":"result","id":1,"type":105,"fields":[1,2,0,0]}"#,
            r#"@nix {"action":"result","id":9,"type":104,"fields":["x"]}"#,
            r#"@nix {"action":"stop","id":9}"#,
        ];
        let (handlings, events) = handle(RecordSource::Builder, &lines);
        assert!(handlings.iter().all(|handling| *handling == Handling::Handled));
        assert_eq!(events, []);

        let (_, events) = handle(
            RecordSource::Builder,
            &[START, r#"@nix {"action":"result","id":1,"type":103,"fields":["/p"]}"#],
        );
        assert_eq!(events.len(), 2, "{events:?}");

        let (_, events) = handle(RecordSource::BuildHook, &lines);
        assert_eq!(events.len(), 3, "start, result and stop: {events:?}");
    }

    #[test]
    fn l3_what_is_no_record_is_text() {
        for line in [
            "@nix ",
            "@nix null",
            "@nix {",
            "@nix []",
            r#"@nix {"action":"explode"}"#,
            r#"@nix {"action":3}"#,
            r#"@nix {"action":"stop"}"#,
            r#"@nix {"action":"stop","id":-1}"#,
            r#"@nix {"action":"stop","id":1.5}"#,
            r#"@nix {"action":"setPhase"}"#,
            r#"@nix {"action":"result","id":1,"type":101,"fields":[null]}"#,
            r#"@nix {"action":"result","id":1,"type":101,"fields":"x"}"#,
        ] {
            let (handlings, events) = handle(RecordSource::Builder, &[line]);
            assert!(matches!(handlings[0], Handling::Malformed(_)), "{line}: {handlings:?}");
            assert_eq!(events, []);
        }
        let deep = format!("@nix {}", "[".repeat(50_000));
        assert!(matches!(
            handle(RecordSource::Builder, &[&deep]).0[0],
            Handling::Malformed(RecordError::Json(_))
        ));
    }

    #[test]
    fn l3_open_activities_are_bounded() {
        let lines: Vec<String> =
            (0..2000).map(|id| START.replace("\"id\":1", &format!("\"id\":{id}"))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_, events) = handle(RecordSource::Builder, &lines);
        assert_eq!(events.len(), 2 * MAX_OPEN);
    }

    proptest! {
        /// Whatever stands in a line, only events below this build come out, and all that starts stops.
        #[test]
        fn l3_no_line_does_harm(id in 0u64..3, number in 99u64..110, damage in proptest::option::of((0usize..80, any::<u8>()))) {
            let mut line = format!(r#"@nix {{"action":"start","id":{id},"level":3,"type":{number},"text":"t","fields":["d","",1,1]}}"#).into_bytes();
            if let Some((at, byte)) = damage && at < line.len() {
                line[at] = byte;
            }
            let sink = Arc::new(CollectingSink::new());
            let sender = EventSender::with_first_id(sink.clone(), 100);
            let mut activities = BuilderActivities::new(sender, BUILD, RecordSource::Builder);
            activities.handle(&line);
            drop(activities);
            let mut running = 0;
            for event in sink.take() {
                match event {
                    Event::Start { parent, activity, .. } => {
                        prop_assert_eq!(parent, BUILD);
                        prop_assert_eq!(activity.activity_type(), ActivityType::FILE_TRANSFER);
                        running += 1;
                    }
                    Event::Stop { .. } => running -= 1,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(running, 0);
        }
    }
}
