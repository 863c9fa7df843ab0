//! A bare archive, whose end only its own grammar tells.

use kiln_nar::Decoder;

use crate::error::PayloadError;

/// Passes one archive. A damaged one has no end: then the connection can't be used any more.
#[derive(Debug, Clone, Default)]
pub struct NarReader {
    decoder: Decoder,
}

impl NarReader {
    /// At the beginning of an archive.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the archive, as they lie in the input; never none of them. `None`: the archive
    /// [is complete](Self::is_complete), or there was no input.
    ///
    /// # Errors
    /// The archive may be damaged.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<&'i [u8]>, PayloadError> {
        let whole = *input;
        while self.decoder.next(input)?.is_some() {}
        let taken = whole.len().saturating_sub(input.len());
        Ok(whole.get(..taken).filter(|taken| !taken.is_empty()))
    }

    /// Whether the whole archive has been taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.decoder.is_complete()
    }

    /// How many bytes of the archive have been taken.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.decoder.offset()
    }
}
