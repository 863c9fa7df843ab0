//! The `internal-json` log format: one line per record, `@nix ` and a compact JSON object whose keys are in alphabetical
//! order.
//!
//! Texts that aren't UTF-8 are written with U+FFFD in place of what isn't.

use serde::{Serialize, Serializer};

use crate::activity::Field;
use crate::error_report::{ErrorReport, Position, Prefix};
use crate::event::{Event, Message, Verbosity};
use crate::text::Text;

/// What every line begins with.
pub const PREFIX: &str = "@nix ";

/// Details of the format that depend on who reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Add the `trace` key to errors that have traces (`--show-trace`).
    pub show_trace: bool,
}

/// One event as a line: prefix, object, newline.
#[must_use]
pub fn encode(event: &Event, options: Options) -> String {
    let mut line = String::from(PREFIX);
    line.push_str(&encode_object(event, options));
    line.push('\n');
    line
}

/// One event as a JSON object alone, as `json-log-path` has it.
#[must_use]
pub fn encode_object(event: &Event, options: Options) -> String {
    let object = match event {
        Event::Start { id, parent, level, activity, text } => serde_json::to_string(&StartRecord {
            action: "start",
            fields: fields(activity.fields()),
            id: id.0,
            level: level.number(),
            parent: parent.0,
            text: text.to_str_lossy(),
            activity_type: activity.activity_type().0,
        }),
        Event::Stop { id } => serde_json::to_string(&StopRecord { action: "stop", id: id.0 }),
        Event::Result { id, result } => serde_json::to_string(&ResultRecord {
            action: "result",
            fields: fields(result.fields()),
            id: id.0,
            result_type: result.result_type(),
        }),
        Event::Message { level, message: Message::Text(text) } => serde_json::to_string(&TextRecord {
            action: "msg",
            level: level.number(),
            msg: text.to_str_lossy(),
        }),
        Event::Message { level, message: Message::Report(report) } => {
            serde_json::to_string(&report_record(*level, report, options))
        }
    };
    // Nothing above can fail: there are no maps with keys other than strings, and writing goes to memory.
    object.unwrap_or_default()
}

fn report_record(level: Verbosity, report: &ErrorReport, options: Options) -> ReportRecord {
    let prefix = if level == Verbosity::Error { Prefix::Error } else { Prefix::Warning };
    let place = JsonPosition::from(report.position.as_ref());
    let traces = report.traces.iter().map(|trace| {
        let JsonPosition { column, file, line } = JsonPosition::from(trace.position.as_ref());
        TraceRecord { column, file, line, raw_msg: trace.message.to_str_lossy().into_owned() }
    });
    ReportRecord {
        action: "msg",
        column: place.column,
        file: place.file,
        level: level.number(),
        line: place.line,
        msg: report.render(prefix, options.show_trace).to_str_lossy().into_owned(),
        raw_msg: Text::from(report.body()).to_str_lossy().into_owned(),
        trace: if options.show_trace { traces.collect() } else { Vec::new() },
    }
}

fn fields(fields: Vec<Field>) -> Vec<JsonField> {
    fields.into_iter().map(JsonField).collect()
}

struct JsonField(Field);

impl Serialize for JsonField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Field::Int(number) => serializer.serialize_u64(*number),
            Field::Text(text) => serializer.serialize_str(&text.to_str_lossy()),
        }
    }
}

#[derive(Default)]
struct JsonPosition {
    column: Option<u64>,
    file: Option<String>,
    line: Option<u64>,
}

impl From<Option<&Position>> for JsonPosition {
    fn from(position: Option<&Position>) -> JsonPosition {
        position.map_or_else(JsonPosition::default, |position| JsonPosition {
            column: Some(position.column),
            file: Some(position.file.clone()),
            line: Some(position.line),
        })
    }
}

// The fields of these are in alphabetical order of their keys, which is the order in which they are written.

#[derive(Serialize)]
struct StartRecord<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<JsonField>,
    id: u64,
    level: u8,
    parent: u64,
    text: std::borrow::Cow<'a, str>,
    #[serde(rename = "type")]
    activity_type: u64,
}

#[derive(Serialize)]
struct StopRecord {
    action: &'static str,
    id: u64,
}

#[derive(Serialize)]
struct ResultRecord {
    action: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<JsonField>,
    id: u64,
    #[serde(rename = "type")]
    result_type: u64,
}

#[derive(Serialize)]
struct TextRecord<'a> {
    action: &'static str,
    level: u8,
    msg: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct ReportRecord {
    action: &'static str,
    column: Option<u64>,
    file: Option<String>,
    level: u8,
    line: Option<u64>,
    msg: String,
    raw_msg: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace: Vec<TraceRecord>,
}

#[derive(Serialize)]
struct TraceRecord {
    column: Option<u64>,
    file: Option<String>,
    line: Option<u64>,
    raw_msg: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::{Activity, ActivityId, ActivityType};
    use crate::activity_result::ActivityResult;
    use crate::error_report::{ErrorClass, Trace};
    use crate::event::Verbosity;

    /// What Nix 2.26.3 and 2.34.8 wrote for two runs (one build fails in the first; the second is verbose).
    const RECORDED: [&str; 2] = [
        include_str!("../tests/data/internal-json-2.26.3-keep-going.txt"),
        include_str!("../tests/data/internal-json-2.34.8-build.txt"),
    ];

    /// Our own event from a recorded line; only what the recordings hold.
    fn decode(line: &str) -> Event {
        let value: serde_json::Value = serde_json::from_str(line.strip_prefix(PREFIX).unwrap()).unwrap();
        let int = |key: &str| value[key].as_u64().unwrap();
        let fields = || {
            let field = |field: &serde_json::Value| {
                field.as_u64().map_or_else(|| Field::Text(field.as_str().unwrap().into()), Field::Int)
            };
            value["fields"].as_array().map(|fields| fields.iter().map(field).collect()).unwrap_or_default()
        };
        match value["action"].as_str().unwrap() {
            "start" => Event::Start {
                id: ActivityId(int("id")),
                parent: ActivityId(int("parent")),
                level: Verbosity::from_number(int("level")),
                activity: Activity::from_fields(ActivityType(int("type")), fields()),
                text: value["text"].as_str().unwrap().into(),
            },
            "stop" => Event::Stop { id: ActivityId(int("id")) },
            "result" => Event::Result {
                id: ActivityId(int("id")),
                result: ActivityResult::from_fields(int("type"), fields()).unwrap(),
            },
            "msg" => {
                let level = Verbosity::from_number(int("level"));
                match value["raw_msg"].as_str() {
                    Some(raw) => Event::report(level, ErrorReport::new(ErrorClass::BuildFailure, raw)),
                    None => Event::message(level, value["msg"].as_str().unwrap()),
                }
            }
            other => panic!("unexpected action {other}"),
        }
    }

    /// Every recorded line comes out again byte for byte.
    #[test]
    fn writes_what_nix_writes() {
        let mut seen = 0;
        for line in
            RECORDED.iter().flat_map(|recorded| recorded.lines()).filter(|line| line.starts_with(PREFIX))
        {
            assert_eq!(encode(&decode(line), Options::default()), format!("{line}\n"));
            seen += 1;
        }
        assert!(seen > 80, "only {seen} records in the data");
    }

    #[test]
    fn text_that_is_not_utf8_is_replaced() {
        let event = Event::message(Verbosity::Info, b"a\xffb\x1b[0m".as_slice());
        assert_eq!(
            encode(&event, Options::default()),
            "@nix {\"action\":\"msg\",\"level\":3,\"msg\":\"a\u{fffd}b\\u001b[0m\"}\n"
        );
    }

    #[test]
    fn errors_have_their_place_and_traces() {
        let mut report = ErrorReport::new(ErrorClass::UserInput, "foo 1").with_position(Position {
            file: "a.conf".into(),
            line: 3,
            column: 4,
        });
        report.traces.push(Trace { message: "while reading".into(), position: None });
        let event = Event::report(Verbosity::Error, report);
        assert_eq!(
            encode_object(&event, Options { show_trace: true }),
            "{\"action\":\"msg\",\"column\":4,\"file\":\"a.conf\",\"level\":0,\"line\":3,\
             \"msg\":\"\\u001b[31;1merror:\\u001b[0m\\n       … while reading\\n\\n       \
             \\u001b[31;1merror:\\u001b[0m foo 1\\n       at a.conf:3:4\",\
             \"raw_msg\":\"foo 1\\nat a.conf:3:4\",\
             \"trace\":[{\"column\":null,\"file\":null,\"line\":null,\"raw_msg\":\"while reading\"}]}"
        );
        assert!(!encode_object(&event, Options::default()).contains("trace"));
    }
}
