//! The scan for references: which of the candidate digests occur in a stream.

use crate::digest_windows::{DIGEST_LENGTH, DigestText, MAX_TAIL, Wanted, for_each_window};
use crate::stage::Stage;
use std::collections::BTreeSet;

/// Looks for the digests of store paths in a stream, also across the borders of its pieces.
///
/// Its speed depends neither on the number of candidates nor on how many of them occur.
#[derive(Clone)]
pub struct ReferenceScanner {
    candidates: Vec<DigestText>,
    wanted: Wanted,
    found: Vec<bool>,
    missing: usize,
    /// The last bytes seen, fewer than a digest has.
    tail: Vec<u8>,
}

impl ReferenceScanner {
    /// A scanner for `candidates`; equal ones count once.
    #[must_use]
    pub fn new(candidates: impl IntoIterator<Item = DigestText>) -> Self {
        let candidates: Vec<_> = candidates.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        Self {
            wanted: Wanted::new(&candidates),
            found: vec![false; candidates.len()],
            missing: candidates.len(),
            candidates,
            tail: Vec::with_capacity(2 * DIGEST_LENGTH),
        }
    }

    /// The candidates that have occurred, in their order.
    pub fn found(&self) -> impl Iterator<Item = DigestText> {
        self.candidates.iter().zip(&self.found).filter(|&(_, &found)| found).map(|(&digest, _)| digest)
    }

    /// The candidates that have occurred.
    #[must_use]
    pub fn finish(self) -> BTreeSet<DigestText> {
        self.found().collect()
    }

    fn scan(&mut self, data: &[u8]) {
        for_each_window(data, |_, window| {
            if let Some(index) = self.wanted.get(window)
                && let Some(found @ false) = self.found.get_mut(index)
            {
                *found = true;
                self.missing -= 1;
            }
            1
        });
    }
}

impl Stage for ReferenceScanner {
    fn update(&mut self, piece: &[u8]) {
        if self.missing == 0 {
            return;
        }
        // Windows that begin in earlier pieces: at most the tail and as many bytes of this piece.
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(piece.get(..MAX_TAIL).unwrap_or(piece));
        self.scan(&joined);
        if piece.len() >= MAX_TAIL {
            self.scan(piece);
            joined.clear();
            joined.extend_from_slice(piece.get(piece.len() - MAX_TAIL..).unwrap_or_default());
        } else {
            joined.drain(..joined.len().saturating_sub(MAX_TAIL));
        }
        self.tail = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(seed: u64) -> DigestText {
        let text = kiln_hash::Sha256::of(seed.to_le_bytes()).nix32();
        DigestText::new(&text[..DIGEST_LENGTH]).unwrap()
    }

    #[test]
    fn every_cut_finds_the_digest() {
        let digest = digest(1);
        let data = [b"xx".as_slice(), digest.as_bytes(), b"yy"].concat();
        for first in 0..=data.len() {
            for second in first..=data.len() {
                let mut scanner = ReferenceScanner::new([digest, super::tests::digest(2)]);
                for piece in [&data[..first], &data[first..second], &data[second..]] {
                    scanner.update(piece);
                }
                assert_eq!(scanner.finish(), BTreeSet::from([digest]));
            }
        }
    }

    #[test]
    fn a_digest_cut_short_is_not_found() {
        let digest = digest(1);
        let mut scanner = ReferenceScanner::new([digest]);
        scanner.update(&digest.as_bytes()[..31]);
        scanner.update(b"/");
        scanner.update(&digest.as_bytes()[1..]);
        assert_eq!(scanner.found().count(), 0);
    }

    #[test]
    fn no_candidates() {
        let mut scanner = ReferenceScanner::new([]);
        scanner.update(&[b'a'; 100]);
        assert!(scanner.finish().is_empty());
    }

    proptest! {
        #[test]
        fn finds_what_plain_search_finds(
            parts in prop::collection::vec(prop_oneof![
                (0..6u64).prop_map(|seed| digest(seed).as_bytes().to_vec()),
                (0..6u64, 1..32usize).prop_map(|(seed, cut)| digest(seed).as_bytes()[..cut].to_vec()),
                prop::collection::vec(any::<u8>(), 0..50),
                prop::collection::vec(prop::sample::select(&b"abcd"[..]), 0..50),
            ], 0..12),
            cuts in prop::collection::vec(1..90usize, 1..8),
        ) {
            let data = parts.concat();
            let candidates: Vec<_> = (0..4).map(digest).collect();
            let plain: BTreeSet<_> = candidates.iter().copied()
                .filter(|digest| data.windows(DIGEST_LENGTH).any(|window| window == digest.as_bytes()))
                .collect();
            let mut scanner = ReferenceScanner::new(candidates);
            let (mut rest, mut cuts) = (&data[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                scanner.update(piece);
                rest = after;
            }
            prop_assert_eq!(scanner.finish(), plain);
        }
    }
}
