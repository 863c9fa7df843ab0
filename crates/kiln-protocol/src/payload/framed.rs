//! Framed payloads: frames of a number and as many bytes, without padding, ended by an empty frame.

use crate::error::PayloadError;
use crate::scan::NUMBER;

/// Appends a frame. Nothing is appended for no bytes, since an empty frame would be the end.
pub fn put_frame(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

/// Appends the end.
pub fn put_end(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; NUMBER]);
}

/// Takes frames apart.
///
/// ```
/// # use kiln_protocol::payload::{FrameReader, put_end, put_frame};
/// # let mut bytes = Vec::new();
/// # put_frame(&mut bytes, b"hello");
/// # put_end(&mut bytes);
/// let mut reader = FrameReader::new();
/// let mut input = &bytes[..];
/// while let Some(payload) = reader.next(&mut input)? {
///     assert_eq!(payload, b"hello");
/// }
/// assert!(reader.is_complete()); // Otherwise more input would be needed.
/// # Ok::<(), kiln_protocol::PayloadError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FrameReader {
    number: Number,
    missing: u64,
    complete: bool,
}

impl FrameReader {
    /// At the beginning of a payload.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the payload, as they lie in the input; never none of them. `None`: the payload
    /// [is complete](Self::is_complete), or all of the input is taken.
    ///
    /// # Errors
    /// A frame's length may not fit 32 bits.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<&'i [u8]>, PayloadError> {
        if self.complete {
            return Ok(None);
        }
        if self.missing == 0 {
            let Some(length) = self.number.take(input) else { return Ok(None) };
            if u32::try_from(length).is_err() {
                return Err(PayloadError::FrameTooLong(length));
            }
            self.missing = length;
            self.complete = length == 0;
        }
        Ok(take_up_to(&mut self.missing, input))
    }

    /// Whether the end has been taken.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }
}

/// A number that comes in pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Number {
    bytes: [u8; NUMBER],
    length: usize,
}

impl Number {
    /// Takes bytes until the number is whole.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Option<u64> {
        while let Some(slot) = self.bytes.get_mut(self.length) {
            let (first, rest) = input.split_first()?;
            *slot = *first;
            *input = rest;
            self.length += 1;
        }
        self.length = 0;
        Some(u64::from_le_bytes(self.bytes))
    }
}

/// Takes as much of what is missing as there is; `None` if that is nothing.
pub(crate) fn take_up_to<'i>(missing: &mut u64, input: &mut &'i [u8]) -> Option<&'i [u8]> {
    let length = usize::try_from(*missing).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at_checked(length)?;
    *input = rest;
    *missing = missing.saturating_sub(length as u64);
    (!taken.is_empty()).then_some(taken)
}
