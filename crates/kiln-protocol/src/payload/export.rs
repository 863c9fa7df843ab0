//! An export stream, whose end only its own grammar tells.

use kiln_nar::export::{ExportEvent, ExportReader};

use crate::error::PayloadError;

/// Passes one export stream: that of ImportPaths. A damaged one has no end.
#[derive(Debug, Clone, Default)]
pub struct ExportStreamReader {
    reader: ExportReader,
    complete: bool,
}

impl ExportStreamReader {
    /// At the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the stream, as they lie in the input; never none of them. `None`: the stream
    /// [is complete](Self::is_complete), or there was no input.
    ///
    /// # Errors
    /// The stream may be damaged.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<&'i [u8]>, PayloadError> {
        let whole = *input;
        while !self.complete
            && let Some(event) = self.reader.next(input)?
        {
            self.complete = event == ExportEvent::End;
        }
        let taken = whole.len().saturating_sub(input.len());
        Ok(whole.get(..taken).filter(|taken| !taken.is_empty()))
    }

    /// Whether the whole stream has been taken.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }
}
