//! A payload that the client has to be asked for, piece by piece.
//!
//! Clients fail when they are asked for more than they have, or wait for what somebody types at their standard input. So it is
//! looked into what comes: when that says that it is over, nothing more is asked for.

use std::sync::Arc;

use kiln_protocol::PayloadError;
use kiln_protocol::payload::{ExportStreamReader, NarReader, PulledReader};
use kiln_protocol::worker::Operation;

use super::outbox::Outbox;

/// Bytes that a client is asked for at once.
const ASKED: u64 = 32 << 10;

/// A payload that is asked for.
pub(super) struct PulledPayload {
    /// The answer that is being read, if one has been asked for.
    answer: Option<PulledReader>,
    contents: Contents,
    /// Whether nothing more will be asked for.
    ended: bool,
    outbox: Arc<Outbox>,
}

/// What is asked for, as far as it has come.
enum Contents {
    Nar(Box<NarReader>),
    Export(Box<ExportStreamReader>),
}

impl PulledPayload {
    /// What is to be asked for after a request for this operation.
    pub(super) fn new(operation: Operation, outbox: &Arc<Outbox>) -> Self {
        let contents = match operation {
            Operation::ImportPaths => Contents::Export(Box::default()),
            _ => Contents::Nar(Box::default()),
        };
        Self { answer: None, contents, ended: false, outbox: Arc::clone(outbox) }
    }

    /// Asks for more, if there is more and it has not been asked for.
    pub(super) fn ask(&mut self) {
        if self.answer.is_none() && !self.ended {
            self.answer = Some(PulledReader::new(ASKED));
            self.outbox.ask(ASKED);
        }
    }

    /// Whether nothing has been asked for that has not come.
    pub(super) fn is_between_answers(&self) -> bool {
        self.answer.is_none()
    }

    /// Whether all has come, and all that was asked for.
    pub(super) fn is_complete(&self) -> bool {
        self.ended && self.answer.is_none()
    }

    /// Whether an answer has just been read wholly.
    pub(super) fn has_all_of_an_answer(&mut self) -> bool {
        let Some(reader) = self.answer.as_ref().filter(|reader| reader.is_complete()) else { return false };
        self.ended |= reader.is_end();
        self.answer = None;
        true
    }

    /// The next bytes; `None` if more input is needed, or the answer ends.
    ///
    /// # Errors
    /// An answer may be longer than was asked for, or damaged.
    pub(super) fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<&'i [u8]>, PayloadError> {
        let Some(answer) = &mut self.answer else { return Ok(None) };
        while let Some(part) = answer.next(input)? {
            // What follows the end, which some have at their standard input, is nobody's.
            if !self.ended {
                let (part, is_last) = self.contents.take(part);
                self.ended = is_last;
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

impl Contents {
    /// As much of some bytes, of which there is one at least, as belongs to the contents, and whether they end with that. Damaged ones
    /// end with the damage, which whoever reads them finds himself.
    fn take<'i>(&mut self, bytes: &'i [u8]) -> (&'i [u8], bool) {
        let mut rest = bytes;
        let taken = match self {
            Self::Nar(reader) => reader.next(&mut rest).map(|taken| (taken, reader.is_complete())),
            Self::Export(reader) => reader.next(&mut rest).map(|taken| (taken, reader.is_complete())),
        };
        match taken {
            Ok((taken, is_complete)) => (taken.unwrap_or_default(), is_complete),
            Err(_) => (bytes, true),
        }
    }
}
