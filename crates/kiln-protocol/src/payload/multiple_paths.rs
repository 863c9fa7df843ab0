//! What AddMultipleToStore carries inside of its frames: a count, and for each path its info and its archive, without anything
//! between them. To write it, [`append`](crate::append) the count (a `u64`), and before each archive its [`PathInfo`].

use kiln_narinfo::PathInfo;

use crate::error::PayloadError;
use crate::message_reader::MessageReader;
use crate::payload::nar::NarReader;
use crate::version::Dialect;

/// The most bytes of what is told of one path: references, above all.
const MAX_INFO: usize = 64 << 20;

/// What comes next in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiplePathsEvent<'i> {
    /// How many paths will come.
    Count(u64),
    /// A path, whose archive follows.
    Path(Box<PathInfo>),
    /// The next bytes of the archive; never none.
    Nar(&'i [u8]),
    /// The archive is complete.
    EndOfNar,
}

#[derive(Debug, Clone)]
enum State {
    Count,
    /// So many paths are missing.
    Path(u64),
    /// The archive at hand, and so many paths after it.
    Nar(Box<NarReader>, u64),
}

/// Takes such a payload apart, frame by frame or however it comes.
#[derive(Debug, Clone)]
pub struct MultiplePathsReader {
    reader: MessageReader,
    state: State,
}

impl Default for MultiplePathsReader {
    fn default() -> Self {
        Self::new()
    }
}

impl MultiplePathsReader {
    /// At the beginning of a payload.
    #[must_use]
    pub fn new() -> Self {
        Self { reader: MessageReader::new(MAX_INFO), state: State::Count }
    }

    /// What comes next. `None`: all of the input is taken; more is needed unless the payload
    /// [is complete](Self::is_complete).
    ///
    /// # Errors
    /// The payload may be damaged, or go on after the last archive.
    pub fn next<'i>(
        &mut self,
        dialect: &Dialect,
        input: &mut &'i [u8],
    ) -> Result<Option<MultiplePathsEvent<'i>>, PayloadError> {
        match &mut self.state {
            State::Count => {
                let Some(count) = self.reader.read(dialect, input)? else { return Ok(None) };
                self.state = State::Path(count);
                Ok(Some(MultiplePathsEvent::Count(count)))
            }
            State::Path(0) if input.is_empty() => Ok(None),
            State::Path(0) => Err(PayloadError::Trailing),
            State::Path(missing) => {
                let Some(info) = self.reader.read::<PathInfo>(dialect, input)? else { return Ok(None) };
                self.state = State::Nar(Box::default(), missing.saturating_sub(1));
                Ok(Some(MultiplePathsEvent::Path(Box::new(info))))
            }
            State::Nar(nar, missing) => {
                if let Some(bytes) = nar.next(input)? {
                    return Ok(Some(MultiplePathsEvent::Nar(bytes)));
                }
                if !nar.is_complete() {
                    return Ok(None);
                }
                self.state = State::Path(*missing);
                Ok(Some(MultiplePathsEvent::EndOfNar))
            }
        }
    }

    /// Whether the last archive has been taken.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Path(0))
    }

    /// Says that there is no more input.
    ///
    /// # Errors
    /// The payload may not be complete.
    pub fn finish(&self) -> Result<(), PayloadError> {
        if self.is_complete() { Ok(()) } else { Err(PayloadError::Truncated) }
    }
}
