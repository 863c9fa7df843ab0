//! A payload whose length is known before: the archive of the serve protocol's AddToStoreNar.

use crate::payload::framed::take_up_to;

/// Passes so many bytes.
#[derive(Debug, Clone)]
pub struct SizedReader {
    missing: u64,
}

impl SizedReader {
    /// At the beginning of a payload of `size` bytes.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { missing: size }
    }

    /// The next bytes of the payload, as they lie in the input; never none of them. `None`: the payload
    /// [is complete](Self::is_complete), or there was no input.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        take_up_to(&mut self.missing, input)
    }

    /// Whether all bytes have been taken.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }
}
