//! Finds what may be the digest of a store path in a stream of bytes.
//!
//! A digest is [`DIGEST_LENGTH`] characters of the nix32 alphabet. The search looks at a window of that length from its
//! right end: a byte that isn't in the alphabet moves the window past it, so that most bytes of ordinary data are
//! never looked at. Only windows made of the alphabet alone are looked up, and that lookup begins with one bit of a
//! table that fits the first-level cache. So the cost depends neither on how many digests are wanted nor on how many
//! have been found, and a stream made to be all alphabet costs no more than a few instructions per byte.

use kiln_hash::encoding::is_nix32_digit;
use std::collections::HashMap;
use std::fmt;
use thiserror::Error;

/// Characters in the digest part of a store path.
pub const DIGEST_LENGTH: usize = 32;

/// What of a window may be left from the pieces before.
pub(crate) const MAX_TAIL: usize = DIGEST_LENGTH - 1;

/// The text of the digest part of a store path: 32 characters of the nix32 alphabet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DigestText([u8; DIGEST_LENGTH]);

/// A text isn't the digest part of a store path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{}' is not the digest part of a store path: expected {DIGEST_LENGTH} characters of the nix32 alphabet", .0.escape_ascii())]
pub struct InvalidDigestText(pub Vec<u8>);

impl DigestText {
    /// Takes `text` as digest.
    ///
    /// # Errors
    /// If it hasn't 32 characters, or others than the nix32 alphabet.
    pub fn new(text: impl AsRef<[u8]>) -> Result<Self, InvalidDigestText> {
        let text = text.as_ref();
        match <[u8; DIGEST_LENGTH]>::try_from(text) {
            Ok(digest) if digest.iter().all(|&byte| is_nix32_digit(byte)) => Ok(Self(digest)),
            _ => Err(InvalidDigestText(text.to_vec())),
        }
    }

    /// The 32 characters.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DIGEST_LENGTH] {
        &self.0
    }

    /// The 32 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The alphabet is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for DigestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DigestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestText({self})")
    }
}

/// Whether a byte is of the nix32 alphabet.
static IS_DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let mut digits = kiln_hash::encoding::NIX32_ALPHABET.as_slice();
    while let [digit, rest @ ..] = digits {
        let (_, from) = table.split_at_mut(*digit as usize);
        if let Some(first) = from.first_mut() {
            *first = true;
        }
        digits = rest;
    }
    table
};

/// Bits of the table that is asked first, as a power of two.
const FILTER_BITS: u32 = 16;

/// The digests that are looked for, each with its index.
#[derive(Clone)]
pub(crate) struct Wanted {
    indexes: HashMap<[u8; DIGEST_LENGTH], usize>,
    filter: Box<[u64; 1 << (FILTER_BITS - 6)]>,
}

impl Wanted {
    /// Of equal digests the first counts.
    pub(crate) fn new<'a>(digests: impl IntoIterator<Item = &'a DigestText>) -> Self {
        let mut wanted = Self { indexes: HashMap::new(), filter: Box::new([0; 1 << (FILTER_BITS - 6)]) };
        for (index, digest) in digests.into_iter().enumerate() {
            wanted.indexes.entry(digest.0).or_insert(index);
            let (word, bit) = filter_place(&digest.0);
            if let Some(word) = wanted.filter.get_mut(word) {
                *word |= bit;
            }
        }
        wanted
    }

    #[inline]
    pub(crate) fn get(&self, window: &[u8; DIGEST_LENGTH]) -> Option<usize> {
        let (word, bit) = filter_place(window);
        if self.filter.get(word).is_none_or(|word| word & bit == 0) {
            return None;
        }
        self.indexes.get(window).copied()
    }
}

/// Word and bit of a digest in the filter. Digests are spread evenly, so a multiplication of some of their characters
/// is enough of a hash; whoever makes up texts that collide here only gets to the hash table.
#[inline]
fn filter_place(window: &[u8; DIGEST_LENGTH]) -> (usize, u64) {
    let word = |bytes: Option<&[u8; 8]>| bytes.copied().map_or(0, u64::from_le_bytes);
    let mixed = (word(window.first_chunk()) ^ word(window.last_chunk()).rotate_left(3))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = mixed >> (64 - FILTER_BITS);
    ((place >> 6) as usize, 1 << (place & 63))
}

/// Calls `visit` with the start of every window of `data` that is made of the alphabet alone, from left to right. What it
/// returns is how far to go on: 1 for the next window, [`DIGEST_LENGTH`] to skip the whole window.
#[inline]
pub(crate) fn for_each_window(data: &[u8], mut visit: impl FnMut(usize, &[u8; DIGEST_LENGTH]) -> usize) {
    let mut start = 0;
    while let Some(window) = data.get(start..).and_then(|rest| rest.first_chunk::<DIGEST_LENGTH>()) {
        if let Some(bad) = window.iter().rposition(|&byte| !is_digit(byte)) {
            start += bad + 1;
            continue;
        }
        // The windows of a run of digits need no more than its end to be looked for.
        let after = data.get(start + DIGEST_LENGTH..).unwrap_or_default();
        let more = after.iter().position(|&byte| !is_digit(byte)).unwrap_or(after.len());
        let end = start + DIGEST_LENGTH + more;
        let run = data.get(..end).unwrap_or_default();
        while let Some(window) = run.get(start..).and_then(|rest| rest.first_chunk::<DIGEST_LENGTH>()) {
            start += visit(start, window);
        }
        start = end;
    }
}

#[inline]
fn is_digit(byte: u8) -> bool {
    // A table of 256 has a place for every byte, which the compiler sees.
    IS_DIGIT.get(usize::from(byte)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digest_text() {
        let text = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d";
        assert_eq!(DigestText::new(text).unwrap().to_string(), text);
        for bad in [
            "",
            "mz985b11rp8ccbhb4gcc1bpxwpxvbw6",
            "mz985b11rp8ccbhb4gcc1bpxwpxvbw6dd",
            "ez985b11rp8ccbhb4gcc1bpxwpxvbw6d",
        ] {
            assert!(DigestText::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn table_agrees_with_the_alphabet() {
        for byte in 0..=255 {
            assert_eq!(is_digit(byte), is_nix32_digit(byte), "{byte}");
        }
    }

    proptest! {
        #[test]
        fn windows_are_those_of_the_plain_search(data in prop::collection::vec(prop::sample::select(&b"ab0z/e"[..]), 0..400),
                                                 long in prop::collection::vec(prop::sample::select(&b"abcdfgh"[..]), 0..100)) {
            let data = [data, long].concat();
            let plain: Vec<_> = (0..(data.len() + 1).saturating_sub(DIGEST_LENGTH))
                .filter(|&at| data[at..at + DIGEST_LENGTH].iter().all(|&b| is_nix32_digit(b)))
                .collect();
            let mut found = Vec::new();
            for_each_window(&data, |at, window| {
                assert_eq!(&data[at..at + DIGEST_LENGTH], window);
                found.push(at);
                1
            });
            prop_assert_eq!(found, plain);
        }
    }
}
