//! What a server says between a request and its reply (real Nix calls it the "stderr loop").
//!
//! Messages come in any number; [`LogMessage::Last`] and [`LogMessage::Error`] end the phase, and only after `Last` the reply
//! follows.

use kiln_events::{
    Activity, ActivityId, ActivityResult, ActivityType, Field as ActivityField, Text, Verbosity,
};

use crate::describe::{wire_as, wire_struct};
use crate::error::ReadError;
use crate::limits::{MAX_ACTIVITY_FIELDS, MAX_TEXT, MAX_TRACES};
use crate::shape::{Case, Field, Shape};
use crate::version::{Version, Versions};
use crate::wire::{Decoder, Encoder, Wire};

const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// The first version with activities.
const WITH_ACTIVITIES: u8 = 20;

/// The first version with structured errors.
pub(super) const STRUCTURED_ERRORS: u8 = 26;

/// One message of the log phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogMessage {
    /// Text to print, which usually ends in a newline.
    Next(Text),
    /// The server wants up to this many bytes; the client answers with [`payload::put_pulled`](crate::payload::put_pulled).
    Read(u64),
    /// Bytes for whoever receives what is exported.
    Write(Vec<u8>),
    /// The phase ends; the reply follows.
    Last,
    /// The phase ends, and no reply follows: the operation has failed.
    Error(LogError),
    /// An activity starts. From 1.20 on.
    StartActivity(StartActivity),
    /// An activity stops. From 1.20 on.
    StopActivity(ActivityId),
    /// An activity reports. From 1.20 on.
    Result(ResultMessage),
}

wire_struct! {
    /// An activity as it is told: type and fields as they came. See [`Activity::from_fields`].
    pub struct StartActivity {
        /// Unique in the connection.
        pub id: ActivityId,
        /// Up to which verbosity its text is wanted.
        pub level: Verbosity,
        /// What kind it is.
        pub activity_type: ActivityType,
        /// What to print; often empty.
        pub text: Text,
        /// What it is about.
        pub fields: Vec<ActivityField>,
        /// The activity that it is part of.
        pub parent: ActivityId,
    }
}

wire_struct! {
    /// A report as it is told: see [`ActivityResult::from_fields`].
    pub struct ResultMessage {
        /// The activity that reports.
        pub id: ActivityId,
        /// What kind it is.
        pub result_type: u64,
        /// What it says.
        pub fields: Vec<ActivityField>,
    }
}

impl StartActivity {
    /// An activity as it starts.
    #[must_use]
    pub fn new(
        id: ActivityId,
        parent: ActivityId,
        level: Verbosity,
        activity: &Activity,
        text: Text,
    ) -> Self {
        Self { id, level, activity_type: activity.activity_type(), text, fields: activity.fields(), parent }
    }

    /// What goes on.
    #[must_use]
    pub fn activity(&self) -> Activity {
        Activity::from_fields(self.activity_type, self.fields.clone())
    }
}

impl ResultMessage {
    /// A report.
    #[must_use]
    pub fn new(id: ActivityId, result: &ActivityResult) -> Self {
        Self { id, result_type: result.result_type(), fields: result.fields() }
    }

    /// What is reported; `None` if the fields don't fit the type.
    #[must_use]
    pub fn result(&self) -> Option<ActivityResult> {
        ActivityResult::from_fields(self.result_type, self.fields.clone())
    }
}

/// Why an operation has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogError {
    /// The message: from 1.26 on as it is, before with `error:` and colours.
    pub message: Text,
    /// What was being done, from the innermost. From 1.26 on.
    pub traces: Vec<Text>,
    /// What the client's exit status shall be. Before 1.26.
    pub exit_status: u64,
    /// How bad it is: 0. From 1.26 on.
    pub level: u64,
}

impl LogError {
    /// An error with a message and the exit status that clients before 1.26 end with.
    #[must_use]
    pub fn new(message: impl Into<Text>, exit_status: u64) -> Self {
        Self { message: message.into(), exit_status, ..Self::default() }
    }
}

wire_struct! {
    /// An error since 1.26.
    struct StructuredError {
        /// "Error".
        pub kind: String,
        /// How bad it is: 0.
        pub level: u64,
        /// "Error".
        pub name: String,
        /// The message.
        pub message: Text,
        /// 0: no position. Real clients end themselves on anything else.
        pub have_position: u64,
        /// What was being done.
        pub traces: Traces,
    }
}

wire_struct! {
    /// An error before 1.26.
    struct PlainError {
        /// The message.
        pub message: Text,
        /// What the client's exit status shall be.
        pub exit_status: u64,
    }
}

/// Traces, each with a number that says that it has no position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Traces(Vec<Text>);

impl Wire for Traces {
    const SHAPE: Shape = Shape::List { limit: MAX_TRACES, element: &<(u64, Text)>::SHAPE };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let mut traces = Vec::new();
        for _ in 0..decoder.number()? {
            traces.push(<(u64, Text)>::read(decoder)?.1);
        }
        Ok(Self(traces))
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.count(self.0.len());
        for trace in &self.0 {
            encoder.number(0);
            trace.write(encoder);
        }
    }
}

impl Wire for LogError {
    const SHAPE: Shape = Shape::Fields {
        name: "STDERR_ERROR",
        fields: &[
            Field {
                name: "error",
                versions: Versions::worker_since(STRUCTURED_ERRORS),
                shape: StructuredError::SHAPE,
            },
            Field {
                name: "error",
                versions: Versions::worker_before(STRUCTURED_ERRORS),
                shape: PlainError::SHAPE,
            },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        if decoder.version().minor < STRUCTURED_ERRORS {
            let PlainError { message, exit_status } = PlainError::read(decoder)?;
            return Ok(Self { message, exit_status, ..Self::default() });
        }
        let error = StructuredError::read(decoder)?;
        if error.have_position != 0 {
            return Err(ReadError::value("an error with a position, which no version can tell"));
        }
        Ok(Self { message: error.message, traces: error.traces.0, exit_status: 1, level: error.level })
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        let Self { message, traces, exit_status, level } = self.clone();
        if encoder.version().minor < STRUCTURED_ERRORS {
            PlainError { message, exit_status }.write(encoder);
            return;
        }
        let error = || "Error".to_owned();
        let traces = Traces(traces);
        StructuredError { kind: error(), level, name: error(), message, have_position: 0, traces }
            .write(encoder);
    }
}

wire_as!(ActivityId, Shape::Number, |decoder| decoder.number().map(ActivityId), |value, encoder| encoder
    .number(value.0));
wire_as!(ActivityType, Shape::Number, |decoder| decoder.number().map(ActivityType), |value, encoder| encoder
    .number(value.0));

impl Wire for Vec<ActivityField> {
    const SHAPE: Shape = Shape::List {
        limit: MAX_ACTIVITY_FIELDS,
        element: &Shape::Choice {
            name: "kind of field",
            cases: &[
                Case { tag: 0, shape: Shape::Number },
                Case { tag: 1, shape: Shape::Bytes { limit: MAX_TEXT } },
            ],
        },
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        let mut fields = Self::new();
        for _ in 0..decoder.number()? {
            fields.push(match decoder.number()? {
                0 => ActivityField::Int(decoder.number()?),
                1 => ActivityField::Text(Text::read(decoder)?),
                number => return Err(ReadError::unknown("kind of field", number)),
            });
        }
        Ok(fields)
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        encoder.count(self.len());
        for field in self {
            match field {
                ActivityField::Int(number) => {
                    encoder.number(0);
                    encoder.number(*number);
                }
                ActivityField::Text(text) => {
                    encoder.number(1);
                    text.write(encoder);
                }
            }
        }
    }
}

const KIND: &str = "kind of log message";

impl Wire for LogMessage {
    const SHAPE: Shape = Shape::Choice {
        name: KIND,
        cases: &[
            Case { tag: NEXT, shape: Text::SHAPE },
            Case { tag: READ, shape: Shape::Number },
            Case { tag: WRITE, shape: <Vec<u8>>::SHAPE },
            Case { tag: LAST, shape: <()>::SHAPE },
            Case { tag: ERROR, shape: LogError::SHAPE },
            Case { tag: START_ACTIVITY, shape: StartActivity::SHAPE },
            Case { tag: STOP_ACTIVITY, shape: ActivityId::SHAPE },
            Case { tag: RESULT, shape: ResultMessage::SHAPE },
        ],
    };

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, ReadError> {
        match decoder.number()? {
            NEXT => Text::read(decoder).map(Self::Next),
            READ => decoder.number().map(Self::Read),
            WRITE => Wire::read(decoder).map(Self::Write),
            LAST => Ok(Self::Last),
            ERROR => LogError::read(decoder).map(Self::Error),
            START_ACTIVITY => StartActivity::read(decoder).map(Self::StartActivity),
            STOP_ACTIVITY => ActivityId::read(decoder).map(Self::StopActivity),
            RESULT => ResultMessage::read(decoder).map(Self::Result),
            number => Err(ReadError::unknown(KIND, number)),
        }
    }

    fn write(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Next(text) => {
                encoder.number(NEXT);
                text.write(encoder);
            }
            Self::Read(length) => {
                encoder.number(READ);
                encoder.number(*length);
            }
            Self::Write(bytes) => {
                encoder.number(WRITE);
                bytes.write(encoder);
            }
            Self::Last => encoder.number(LAST),
            Self::Error(error) => {
                encoder.number(ERROR);
                error.write(encoder);
            }
            Self::StartActivity(start) => {
                encoder.number(START_ACTIVITY);
                start.write(encoder);
            }
            Self::StopActivity(id) => {
                encoder.number(STOP_ACTIVITY);
                id.write(encoder);
            }
            Self::Result(result) => {
                encoder.number(RESULT);
                result.write(encoder);
            }
        }
    }
}

impl LogMessage {
    /// Whether it may be sent in a version: old clients don't know activities.
    #[must_use]
    pub const fn is_known_in(&self, version: Version) -> bool {
        match self {
            Self::StartActivity(_) | Self::StopActivity(_) | Self::Result(_) => {
                version.minor >= WITH_ACTIVITIES
            }
            _ => true,
        }
    }

    /// Whether it ends the log phase.
    #[must_use]
    pub const fn ends_phase(&self) -> bool {
        matches!(self, Self::Last | Self::Error(_))
    }
}
