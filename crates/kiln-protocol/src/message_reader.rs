//! Takes whole messages from bytes that come in pieces of any size.

use crate::error::{Fault, ReadError};
use crate::scan::{Progress, Scan};
use crate::shape::Shape;
use crate::version::{Dialect, Version};
use crate::wire::{Decoder, Wire};

/// Reads one message after the other.
///
/// A message that lies whole in the input is decoded from there. Of one that comes in pieces, what has come is kept, and
/// nothing that follows the message is taken: what streams after it, and the next message, stay in the caller's buffer.
/// The time is linear in the message's length however small the pieces are; the memory is what has come of the message
/// (a bound is given to [`new`](Self::new)), and next to nothing between messages.
///
/// ```
/// # use kiln_protocol::{Dialect, MessageReader, Version};
/// # let dialect = Dialect::new(Version::worker(38), Default::default());
/// # let chunks = [&[5, 0, 0, 0][..], &[0, 0, 0, 0, b'h', b'e'], b"llo\0\0\0next"];
/// let mut reader = MessageReader::new(1 << 20);
/// for chunk in chunks {
///     let mut input = chunk;
///     if let Some(message) = reader.read::<String>(&dialect, &mut input)? {
///         assert_eq!(message, "hello");
///         assert_eq!(input, b"next");
///     } // Otherwise all of the chunk was taken, and more is needed.
/// }
/// # Ok::<(), kiln_protocol::ReadError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MessageReader {
    limit: usize,
    pending: Vec<u8>,
    scan: Option<Scan>,
}

/// A buffer that grew beyond this is given back when its message has been read.
const KEPT_CAPACITY: usize = 4096;

impl MessageReader {
    /// A reader that refuses messages of more than `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, pending: Vec::new(), scan: None }
    }

    /// How many bytes of an unfinished message are held.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether the last bytes taken ended a message, so that an end of the input here is not in the middle of one.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes bytes from the front of `input` up to the end of the message and returns it. `None`: all of the input has
    /// been taken, and more is needed; the next call must be for the same type.
    ///
    /// # Errors
    /// See [`ReadError`]. Unless [it says otherwise](ReadError::leaves_connection_usable), nobody knows where the next message
    /// would begin.
    pub fn read<T: Wire>(&mut self, dialect: &Dialect, input: &mut &[u8]) -> Result<Option<T>, ReadError> {
        let shape: &'static Shape = const { &T::SHAPE };
        let mut scan = self.scan.take().unwrap_or_else(|| Scan::new(shape));
        let whole = if self.pending.is_empty() {
            self.take_directly(&mut scan, dialect.version, input)?
        } else {
            None
        };
        if let Some(message) = whole {
            return decode(message, dialect).map(Some);
        }
        if !self.gather(&mut scan, dialect.version, input)? {
            self.scan = Some(scan);
            return Ok(None);
        }
        let message = decode(&self.pending, dialect);
        self.pending.clear();
        self.pending.shrink_to(KEPT_CAPACITY);
        message.map(Some)
    }

    /// The message, if it lies whole in the input.
    fn take_directly<'i>(
        &mut self,
        scan: &mut Scan,
        version: Version,
        input: &mut &'i [u8],
    ) -> Result<Option<&'i [u8]>, ReadError> {
        match scan.advance(input, version)? {
            Progress::Complete(length) => {
                self.check_length(length)?;
                let (message, rest) = input.split_at_checked(length).unwrap_or((*input, &[]));
                *input = rest;
                Ok(Some(message))
            }
            Progress::Needs(length) => {
                self.check_length(length)?;
                self.pending.extend_from_slice(input);
                *input = &[];
                Ok(None)
            }
        }
    }

    /// Takes input until the message is complete: `true`, or until the input is empty.
    fn gather(&mut self, scan: &mut Scan, version: Version, input: &mut &[u8]) -> Result<bool, ReadError> {
        loop {
            let needed = match scan.advance(&self.pending, version)? {
                Progress::Complete(length) => {
                    self.check_length(length)?;
                    return Ok(true);
                }
                Progress::Needs(length) => length,
            };
            self.check_length(needed)?;
            if input.is_empty() {
                return Ok(false);
            }
            let missing = needed.saturating_sub(self.pending.len());
            let (taken, rest) = input.split_at_checked(missing).unwrap_or((*input, &[]));
            self.pending.extend_from_slice(taken);
            *input = rest;
        }
    }

    fn check_length(&self, length: usize) -> Result<(), ReadError> {
        if length <= self.limit {
            Ok(())
        } else {
            Err(ReadError::new(Fault::MessageTooLong { length, limit: self.limit }))
        }
    }
}

fn decode<T: Wire>(message: &[u8], dialect: &Dialect) -> Result<T, ReadError> {
    let mut decoder = Decoder::new(message, dialect);
    let value = T::read(&mut decoder).map_err(|error| match T::SHAPE {
        Shape::Fields { name, .. } => error.within(name).with_whole_message(),
        _ => error.with_whole_message(),
    })?;
    decoder.finish()?;
    Ok(value)
}
