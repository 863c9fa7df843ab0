//! What can be wrong with what the other end says, and with what we want to say.

use std::fmt;

use kiln_nar::DecodeError;
use kiln_nar::export::ExportError;
use thiserror::Error;

/// Why something can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// A string is longer than any that makes sense at its place.
    #[error("string of {length} bytes is too long, the limit is {limit}")]
    TooLong {
        /// Its length, as stated.
        length: u64,
        /// The most that is allowed.
        limit: usize,
    },
    /// A list has more elements than any that makes sense at its place.
    #[error("list of {count} elements is too long, the limit is {limit}")]
    TooMany {
        /// How many there are, as stated.
        count: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The message as a whole is longer than the reader's limit.
    #[error("message of at least {length} bytes is too long, the limit is {limit}")]
    MessageTooLong {
        /// How long it is at least.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The bytes that fill a string up to a multiple of eight aren't zero.
    #[error("non-zero padding")]
    NonZeroPadding,
    /// A number for which there is no operation, command or kind of message.
    #[error("invalid {what} {number}")]
    Unknown {
        /// What the number should say.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// The input ends in the middle of the message.
    #[error("unexpected end of input")]
    Truncated,
    /// There are bytes after what should be all.
    #[error("{0} unexpected bytes after the end")]
    Trailing(usize),
    /// A value that its field can't have.
    #[error("{0}")]
    Value(String),
}

/// Something from the other end that can't be read, and where in which message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// Names from the outermost to the innermost: the message, then fields.
    path: Vec<&'static str>,
    fault: Fault,
    /// Whether the whole message has been taken from the input nevertheless.
    whole: bool,
}

impl ReadError {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { path: Vec::new(), fault, whole: false }
    }

    /// A value that can't be, for whatever reason.
    pub(crate) fn value(reason: impl fmt::Display) -> Self {
        Self::new(Fault::Value(reason.to_string()))
    }

    /// A number that says nothing.
    pub(crate) fn unknown(what: &'static str, number: u64) -> Self {
        Self::new(Fault::Unknown { what, number })
    }

    /// The error, seen from what is around.
    #[must_use]
    pub(crate) fn within(mut self, name: &'static str) -> Self {
        self.path.insert(0, name);
        self
    }

    pub(crate) fn at(path: Vec<&'static str>, fault: Fault) -> Self {
        Self { path, fault, whole: false }
    }

    pub(crate) fn with_whole_message(mut self) -> Self {
        self.whole = true;
        self
    }

    /// What is wrong.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Where it is wrong: names from the outermost to the innermost, beginning with that of the message.
    #[must_use]
    pub fn path(&self) -> &[&'static str] {
        &self.path
    }

    /// Whether the message's end is known and was taken from the input, so that after an answer the conversation can
    /// go on. (A payload that belongs to the message still has to be taken.)
    #[must_use]
    pub const fn leaves_connection_usable(&self) -> bool {
        self.whole
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((message, fields)) = self.path.split_first() {
            write!(f, "{message}")?;
            if !fields.is_empty() {
                write!(f, ", field '{}'", fields.join("."))?;
            }
            f.write_str(": ")?;
        }
        fmt::Display::fmt(&self.fault, f)
    }
}

/// Something that can't be said in the version that the other end speaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct WriteError(pub(crate) String);

/// Why a payload can't be read. The connection can't be used after it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// A frame is longer than 32 bits can say.
    #[error("frame of {0} bytes is too long")]
    FrameTooLong(u64),
    /// The other end answered with more bytes than were asked for.
    #[error("asked for at most {asked} bytes and got {got}")]
    MoreThanAsked {
        /// How many were asked for.
        asked: u64,
        /// How many came.
        got: u64,
    },
    /// The bytes that fill a string up to a multiple of eight aren't zero.
    #[error("non-zero padding")]
    NonZeroPadding,
    /// The payload is an archive, and damaged.
    #[error(transparent)]
    Archive(#[from] DecodeError),
    /// The payload is an export stream, and damaged.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// What stands between archives can't be read.
    #[error(transparent)]
    Record(#[from] ReadError),
    /// The payload ended too early.
    #[error("unexpected end of the payload")]
    Truncated,
    /// The payload goes on after what should be all.
    #[error("unexpected bytes after the end of the payload")]
    Trailing,
}
