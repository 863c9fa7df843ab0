//! What a server pulls: it asks for up to so many bytes, and the client answers with one string that has some, or none at the
//! end.

use crate::error::PayloadError;
use crate::payload::framed::{Number, take_up_to};
use crate::scan::NUMBER;

/// Appends a client's answer: no bytes are the end of what it has.
pub fn put_pulled(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding_after(bytes.len() as u64), 0);
}

fn padding_after(length: u64) -> usize {
    // Less than eight in any case.
    usize::try_from(length.wrapping_neg() % NUMBER as u64).unwrap_or(0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length,
    Bytes { missing: u64, padding: usize },
    Complete,
}

/// Reads the answer to one [`LogMessage::Read`](crate::worker::LogMessage::Read).
#[derive(Debug, Clone)]
pub struct PulledReader {
    asked: u64,
    number: Number,
    state: State,
    is_end: bool,
}

impl PulledReader {
    /// At the beginning of the answer, after up to `asked` bytes were asked for.
    #[must_use]
    pub fn new(asked: u64) -> Self {
        Self { asked, number: Number::default(), state: State::Length, is_end: false }
    }

    /// The next bytes of the payload, as they lie in the input; never none of them. `None`: the answer
    /// [is complete](Self::is_complete), or all of the input is taken.
    ///
    /// # Errors
    /// More may come than was asked for, or padding that isn't zero.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<&'i [u8]>, PayloadError> {
        if self.state == State::Length {
            let Some(got) = self.number.take(input) else { return Ok(None) };
            if got > self.asked {
                return Err(PayloadError::MoreThanAsked { asked: self.asked, got });
            }
            self.is_end = got == 0;
            self.state = State::Bytes { missing: got, padding: padding_after(got) };
        }
        let State::Bytes { mut missing, mut padding } = self.state else { return Ok(None) };
        let taken = take_up_to(&mut missing, input);
        if missing == 0 {
            let (zeros, rest) = input.split_at_checked(padding).unwrap_or((*input, &[]));
            if zeros.iter().any(|&byte| byte != 0) {
                return Err(PayloadError::NonZeroPadding);
            }
            *input = rest;
            padding = padding.saturating_sub(zeros.len());
        }
        self.state = match (missing, padding) {
            (0, 0) => State::Complete,
            _ => State::Bytes { missing, padding },
        };
        Ok(taken)
    }

    /// Whether the whole answer has been taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether the client has nothing more: it answered with no bytes at all.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        self.is_end
    }
}
