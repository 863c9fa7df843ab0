//! One direction of a recorded connection, given out in pieces.

use kiln_protocol::{Dialect, MessageReader, ReadError, Wire, append};

pub(crate) struct Source<'a> {
    bytes: &'a [u8],
    /// Where what was not taken begins.
    start: usize,
    /// Up to where it has come.
    end: usize,
    piece: usize,
    reader: MessageReader,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8], piece: usize) -> Self {
        Self { bytes, start: 0, end: 0, piece, reader: MessageReader::new(1 << 20) }
    }

    pub(crate) fn position(&self) -> usize {
        self.start
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn taken_since(&self, position: usize) -> &'a [u8] {
        &self.bytes[position..self.start]
    }

    /// Calls `read` with ever more input until it gives something. All of the input must have been taken whenever it doesn't.
    pub(crate) fn pump<T, E: std::fmt::Debug>(
        &mut self,
        mut read: impl FnMut(&mut &'a [u8]) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        loop {
            let mut input = &self.bytes[self.start..self.end];
            let result = read(&mut input)?;
            self.start = self.end - input.len();
            if let Some(value) = result {
                return Ok(value);
            }
            assert!(input.is_empty(), "more is wanted although there is more");
            assert!(self.end < self.bytes.len(), "the recording ends too early");
            self.end = self.end.saturating_add(self.piece).min(self.bytes.len());
        }
    }

    /// Takes a message, and compares what it is written as.
    pub(crate) fn message<T: Wire + std::fmt::Debug>(&mut self, dialect: &Dialect) -> Result<T, ReadError> {
        let start = self.start;
        let mut reader = self.reader.clone();
        let message: T = self.pump(|input| reader.read(dialect, input))?;
        assert!(reader.is_between_messages());
        let mut written = Vec::new();
        append(&mut written, &message, dialect).expect("what was said can be said");
        assert_eq!(written, self.taken_since(start), "{message:?}");
        Ok(message)
    }
}
