//! Substitution of byte strings by others: placeholders by paths, digests of paths by other digests.
//!
//! All patterns are looked for in one pass from left to right, so the cost does not grow with their number, and what
//! has been put in is not searched again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A set of byte strings, each with what replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    replacements: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The distinct lengths of the patterns, longest first.
    lengths: Vec<usize>,
    /// The bytes that a pattern can begin with.
    first_bytes: BTreeSet<u8>,
}

impl Rewrites {
    /// No rewrites.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces `from` by `to`. An empty `from` is ignored; a second replacement for it takes the place of the first.
    pub fn insert(&mut self, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        let from = from.into();
        let Some(&first) = from.first() else { return };
        if let Err(position) = self.lengths.binary_search_by(|length| from.len().cmp(length)) {
            self.lengths.insert(position, from.len());
        }
        self.first_bytes.insert(first);
        self.replacements.insert(from, to.into());
    }

    /// Whether there is nothing to replace.
    pub fn is_empty(&self) -> bool {
        self.replacements.is_empty()
    }

    /// The patterns in bytewise order, each with what replaces it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.replacements.iter().map(|(from, to)| (from.as_slice(), to.as_slice()))
    }

    /// `text` with every occurrence replaced; the longest pattern wins where several begin at the same byte.
    pub fn apply<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let mut output: Option<Vec<u8>> = None;
        let mut rest = text;
        // Bytes at the front of `rest` that are known to begin no pattern.
        let mut passed = 0;
        while let Some(candidate) = self.next_candidate(rest, passed) {
            let (before, at) = rest.split_at(candidate);
            match self.match_at(at) {
                Some((length, to)) => {
                    let output = output.get_or_insert_with(|| Vec::with_capacity(text.len()));
                    output.extend_from_slice(before);
                    output.extend_from_slice(to);
                    rest = at.get(length..).unwrap_or_default();
                    passed = 0;
                }
                None => passed = candidate + 1,
            }
        }
        match output {
            Some(mut output) => {
                output.extend_from_slice(rest);
                Cow::Owned(output)
            }
            None => Cow::Borrowed(text),
        }
    }

    /// As [`Self::apply`], for text that is owned already.
    pub fn apply_owned(&self, text: Vec<u8>) -> Vec<u8> {
        match self.apply(&text) {
            Cow::Owned(rewritten) => rewritten,
            Cow::Borrowed(_) => text,
        }
    }

    /// Position of the next byte, from `start` on, with which a pattern begins.
    fn next_candidate(&self, text: &[u8], start: usize) -> Option<usize> {
        let tail = text.get(start..)?;
        let offset = match self.first_bytes.len() {
            0 => None,
            // Placeholders all begin with a slash.
            1 => self.first_bytes.first().and_then(|&byte| memchr::memchr(byte, tail)),
            _ => tail.iter().position(|byte| self.first_bytes.contains(byte)),
        }?;
        Some(start + offset)
    }

    fn match_at(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        self.lengths.iter().find_map(|&length| {
            let to = self.replacements.get(text.get(..length)?)?;
            Some((length, to.as_slice()))
        })
    }
}

impl<F: Into<Vec<u8>>, T: Into<Vec<u8>>> FromIterator<(F, T)> for Rewrites {
    fn from_iter<I: IntoIterator<Item = (F, T)>>(pairs: I) -> Self {
        let mut rewrites = Self::new();
        for (from, to) in pairs {
            rewrites.insert(from, to);
        }
        rewrites
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replaces_all_occurrences_and_longest_first() {
        let rewrites: Rewrites = [("/a", "1"), ("/abc", "22"), ("x", "")].into_iter().collect();
        assert_eq!(&*rewrites.apply(b"/abc/ab//a-x-/"), b"221b/1--/");
        assert!(matches!(rewrites.apply(b"nothing"), Cow::Borrowed(b"nothing")));
        assert!(matches!(Rewrites::new().apply(b"/a"), Cow::Borrowed(b"/a")));
    }

    #[test]
    fn does_not_search_what_it_put_in() {
        let rewrites: Rewrites = [("a", "b"), ("b", "a")].into_iter().collect();
        assert_eq!(&*rewrites.apply(b"abba"), b"baab");
    }

    #[test]
    fn ignores_an_empty_pattern() {
        let rewrites: Rewrites = [("", "x")].into_iter().collect();
        assert!(rewrites.is_empty());
        assert_eq!(&*rewrites.apply(b"abc"), b"abc");
    }

    proptest! {
        /// With one pattern that does not overlap itself, the result is that of the obvious replacement.
        #[test]
        fn equals_plain_replacement(text in "[ab/]{0,60}", to in "[cd]{0,3}") {
            let rewrites: Rewrites = [("/ab", to.as_str())].into_iter().collect();
            let expected = text.replace("/ab", &to);
            prop_assert_eq!(&*rewrites.apply(text.as_bytes()), expected.as_bytes());
        }
    }
}
