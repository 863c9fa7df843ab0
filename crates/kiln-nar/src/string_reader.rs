//! Reads the wire primitives from input that comes in pieces.
//!
//! A string that lies whole in the input is returned as it lies there; only one that is cut by the end of a piece is
//! put together in a buffer. Its length is checked against the caller's limit before anything is held.

use crate::grammar::padding;

/// Bytes of a length.
const PREFIX: usize = 8;

/// Why a string can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StringProblem {
    /// Longer than the limit: the stated length.
    TooLong(u64),
    /// A byte of the padding isn't zero.
    NonZeroPadding,
}

/// Reads strings and numbers, and counts bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct StringReader {
    /// The part of a string that came with earlier pieces; or, if `done`, a whole one that was given out.
    pending: Vec<u8>,
    done: bool,
    offset: u64,
    string_offset: u64,
}

impl StringReader {
    /// Bytes taken so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the string (number, padding) that was read last, or is being read, begins.
    pub(crate) fn string_offset(&self) -> u64 {
        self.string_offset
    }

    /// Where the string that [`string`](Self::string) would return begins.
    pub(crate) fn next_string_offset(&self) -> u64 {
        if self.done || self.pending.is_empty() { self.offset } else { self.string_offset }
    }

    /// Counts `length` bytes that the caller has taken from the input.
    pub(crate) fn skip(&mut self, length: usize) {
        self.offset = self.offset.saturating_add(length as u64);
    }

    /// Reads a `str` of at most `limit` bytes. `None`: all of the input is taken and more is needed.
    pub(crate) fn string<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        limit: usize,
    ) -> Result<Option<&'s [u8]>, StringProblem> {
        self.begin();
        if self.pending.is_empty()
            && let Some((prefix, rest)) = input.split_first_chunk::<PREFIX>()
        {
            let (length, padded) = bounded_length(*prefix, limit)?;
            if let Some((body, rest)) = rest.split_at_checked(padded) {
                *input = rest;
                self.skip(PREFIX + padded);
                return unpadded(body, length).map(Some);
            }
        }
        if !self.gather(input, PREFIX) {
            return Ok(None);
        }
        let Some(prefix) = self.pending.first_chunk::<PREFIX>() else { return Ok(None) };
        let (length, padded) = bounded_length(*prefix, limit)?;
        if !self.gather(input, PREFIX + padded) {
            return Ok(None);
        }
        self.done = true;
        let body = self.pending.get(PREFIX..).unwrap_or_default();
        unpadded(body, length).map(Some)
    }

    /// Reads a `u64`. `None`: all of the input is taken and more is needed.
    pub(crate) fn number(&mut self, input: &mut &[u8]) -> Option<u64> {
        self.begin();
        if !self.gather(input, PREFIX) {
            return None;
        }
        self.done = true;
        self.pending.first_chunk().copied().map(u64::from_le_bytes)
    }

    /// Reads `length` (less than eight) bytes of padding. `None`: all of the input is taken and more is needed.
    pub(crate) fn padding(&mut self, input: &mut &[u8], length: usize) -> Result<Option<()>, StringProblem> {
        self.begin();
        if !self.gather(input, length) {
            return Ok(None);
        }
        self.done = true;
        unpadded(&self.pending, 0).map(|_| Some(()))
    }

    fn begin(&mut self) {
        if self.done {
            self.pending.clear();
            self.done = false;
        }
        if self.pending.is_empty() {
            self.string_offset = self.offset;
        }
    }

    /// Takes input until `length` bytes are pending.
    fn gather(&mut self, input: &mut &[u8], length: usize) -> bool {
        let missing = length.saturating_sub(self.pending.len());
        let (taken, rest) = input.split_at_checked(missing).unwrap_or((*input, &[]));
        self.pending.extend_from_slice(taken);
        *input = rest;
        self.skip(taken.len());
        taken.len() == missing
    }
}

/// The length that `prefix` states, and how long the string is with its padding.
fn bounded_length(prefix: [u8; PREFIX], limit: usize) -> Result<(usize, usize), StringProblem> {
    let stated = u64::from_le_bytes(prefix);
    match usize::try_from(stated) {
        Ok(length) if length <= limit => Ok((length, length.saturating_add(padding(stated)))),
        _ => Err(StringProblem::TooLong(stated)),
    }
}

/// The first `length` bytes of `body`, if all others are zero.
fn unpadded(body: &[u8], length: usize) -> Result<&[u8], StringProblem> {
    let (string, padding) = body.split_at_checked(length).unwrap_or((body, &[]));
    if padding.iter().all(|&byte| byte == 0) { Ok(string) } else { Err(StringProblem::NonZeroPadding) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = b"\x05\0\0\0\0\0\0\0hello\0\0\0\x01\0\0\0\0\0\0\0";

    #[test]
    fn every_way_of_cutting_gives_the_same() {
        for cut in 0..HELLO.len() {
            let mut reader = StringReader::default();
            let mut pieces = [&HELLO[..cut], &HELLO[cut..]].into_iter();
            let mut input = pieces.next().unwrap();
            let text = loop {
                if let Some(string) = reader.string(&mut input, 5).unwrap() {
                    break string.to_vec();
                }
                assert!(input.is_empty());
                input = pieces.next().unwrap();
            };
            assert_eq!(text, b"hello");
            assert_eq!(reader.offset(), 16);
            let number = reader.number(&mut input).or_else(|| {
                input = pieces.next().unwrap();
                reader.number(&mut input)
            });
            assert_eq!(number, Some(1));
            assert_eq!((reader.offset(), reader.string_offset()), (24, 16));
        }
    }

    #[test]
    fn limit_is_checked_before_anything_is_held() {
        let mut reader = StringReader::default();
        let mut input = &[0xff; 8][..];
        assert_eq!(reader.string(&mut input, 32), Err(StringProblem::TooLong(u64::MAX)));
        let mut reader = StringReader::default();
        let mut input = HELLO;
        assert_eq!(reader.string(&mut input, 4), Err(StringProblem::TooLong(5)));
        assert!(reader.pending.capacity() <= 64);
    }

    #[test]
    fn padding_must_be_zero() {
        let mut reader = StringReader::default();
        assert_eq!(reader.padding(&mut &b"\0\0\x01"[..], 3), Err(StringProblem::NonZeroPadding));
        let mut reader = StringReader::default();
        assert_eq!(reader.padding(&mut &b"\0\0"[..], 3), Ok(None));
        assert_eq!(reader.padding(&mut &b"\0\x07"[..], 3), Ok(Some(())));
    }
}
