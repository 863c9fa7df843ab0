//! Replacing digests in a stream, and hashing a stream without regard to one of them.

use crate::digest_windows::{DIGEST_LENGTH, DigestText, MAX_TAIL, Wanted, for_each_window};
use crate::stage::Stage;
use kiln_hash::{Algorithm, Hash, Hasher};

/// Replaces digests of store paths in a stream by others of the same length, also across the borders of its pieces.
///
/// Occurrences are taken from left to right and don't overlap. What replaces a digest isn't searched again.
#[derive(Clone)]
pub struct HashRewriter {
    replacements: Vec<[u8; DIGEST_LENGTH]>,
    wanted: Wanted,
    /// The last bytes of the stream, fewer than a digest has, that may begin one.
    held: Vec<u8>,
    /// Offset of `held` in the stream.
    offset: u64,
    occurrences: u64,
    /// Where digests were found, if they are to be recorded.
    positions: Option<Vec<u64>>,
}

impl HashRewriter {
    /// A rewriter that replaces the first of each pair by the second. Of pairs with the same first the earliest counts.
    #[must_use]
    pub fn new(pairs: impl IntoIterator<Item = (DigestText, [u8; DIGEST_LENGTH])>) -> Self {
        let (digests, replacements): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        Self {
            replacements,
            wanted: Wanted::new(&digests),
            held: Vec::new(),
            offset: 0,
            occurrences: 0,
            positions: None,
        }
    }

    /// Makes the rewriter remember where it replaced something: eight bytes for every occurrence.
    #[must_use]
    pub fn record_positions(mut self) -> Self {
        self.positions = Some(Vec::new());
        self
    }

    /// Takes the next piece of the stream and appends to `out` what is sure of the rewritten one; up to 31 bytes are held
    /// back until more is known.
    pub fn update(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.append(&mut self.held);
        out.extend_from_slice(piece);
        let settled = self.replace(out.get_mut(start..).unwrap_or_default());
        let keep = out.len() - (out.len() - start).saturating_sub(MAX_TAIL).max(settled) - start;
        self.held = out.split_off(out.len() - keep);
        self.offset += (out.len() - start) as u64;
    }

    /// Appends the rest of the stream to `out`; tells how many digests were replaced. Another stream may follow, in which
    /// digests don't reach back into this one, while count and offsets go on.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> u64 {
        self.offset += self.held.len() as u64;
        out.append(&mut self.held);
        self.occurrences
    }

    /// Offsets in the stream (the same before and after rewriting) of the digests replaced so far, in ascending order;
    /// empty unless [recorded](Self::record_positions).
    #[must_use]
    pub fn positions(&self) -> &[u64] {
        self.positions.as_deref().unwrap_or_default()
    }

    /// Replaces all digests in `data`; returns where the last one ends.
    fn replace(&mut self, data: &mut [u8]) -> usize {
        let mut matches = Vec::new();
        for_each_window(data, |at, window| match self.wanted.get(window) {
            Some(index) => {
                matches.push((at, index));
                DIGEST_LENGTH
            }
            None => 1,
        });
        for &(at, index) in &matches {
            let place = data.get_mut(at..at + DIGEST_LENGTH);
            if let (Some(place), Some(replacement)) = (place, self.replacements.get(index)) {
                place.copy_from_slice(replacement);
            }
            if let Some(positions) = &mut self.positions {
                positions.push(self.offset + at as u64);
            }
        }
        self.occurrences += matches.len() as u64;
        matches.last().map_or(0, |&(at, _)| at + DIGEST_LENGTH)
    }
}

/// The hash of a stream without regard to one digest in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfHash {
    /// Hash of the stream with 32 NUL bytes in place of each occurrence (Nix 2.17 and later).
    pub hash: Hash,
    /// The same followed by `|` and the decimal offset of each occurrence (Nix 2.16 and earlier), if it was asked for.
    pub old_hash: Option<Hash>,
    /// How often the digest occurred.
    pub occurrences: u64,
}

/// Hashes a stream without regard to one digest in it ("hash modulo self"): that of the store path which the stream is
/// to be, so that a path can be named by contents that contain its name.
#[derive(Clone)]
pub struct SelfHasher {
    rewriter: HashRewriter,
    hasher: Hasher,
    rewritten: Vec<u8>,
}

impl SelfHasher {
    /// A hasher that looks past `digest`.
    #[must_use]
    pub fn new(algorithm: Algorithm, digest: DigestText) -> Self {
        Self {
            rewriter: HashRewriter::new([(digest, [0; DIGEST_LENGTH])]),
            hasher: Hasher::new(algorithm),
            rewritten: Vec::new(),
        }
    }

    /// Also takes the hash that Nix before 2.17 took: eight bytes of memory for every occurrence.
    #[must_use]
    pub fn with_old_hash(mut self) -> Self {
        self.rewriter = self.rewriter.record_positions();
        self
    }

    /// The hash of what was seen.
    #[must_use]
    pub fn finish(mut self) -> SelfHash {
        let occurrences = self.rewriter.finish(&mut self.rewritten);
        self.hasher.update(&self.rewritten);
        let old_hash = self.rewriter.positions.map(|positions| {
            let mut hasher = self.hasher.clone();
            for position in positions {
                hasher.update(format!("|{position}").as_bytes());
            }
            hasher.finish()
        });
        SelfHash { hash: self.hasher.finish(), old_hash, occurrences }
    }
}

impl Stage for SelfHasher {
    fn update(&mut self, piece: &[u8]) {
        self.rewriter.update(piece, &mut self.rewritten);
        self.hasher.update(&self.rewritten);
        self.rewritten.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "mz985b11rp8ccbhb4gcc1bpxwpxvbw6d";
    const B: &str = "fkcy6m3kx766j9lmy6dy4c5i4k2x23s6";

    fn digest(text: &str) -> DigestText {
        DigestText::new(text).unwrap()
    }

    fn rewrite(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u64>) {
        let mut rewriter = HashRewriter::new([(digest(A), *digest(B).as_bytes()), (digest(B), [b'!'; 32])])
            .record_positions();
        let mut out = Vec::new();
        for piece in pieces {
            rewriter.update(piece, &mut out);
        }
        assert_eq!(rewriter.finish(&mut out), rewriter.positions().len() as u64);
        (out, rewriter.positions().to_vec())
    }

    #[test]
    fn every_cut_rewrites_the_same() {
        let text = format!("/{A}{A}-x{B}");
        let expected = format!("/{B}{B}-x{}", "!".repeat(32));
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let bytes = text.as_bytes();
                let (out, positions) = rewrite(&[&bytes[..first], &bytes[first..second], &bytes[second..]]);
                assert_eq!(out, expected.as_bytes());
                assert_eq!(positions, [1, 33, 67]);
            }
        }
    }

    #[test]
    fn overlapping_occurrences_are_taken_from_the_left() {
        let all_a = "a".repeat(32);
        let mut rewriter = HashRewriter::new([(digest(&all_a), [b'-'; 32])]);
        let mut out = Vec::new();
        rewriter.update("a".repeat(70).as_bytes(), &mut out);
        rewriter.update(b"b", &mut out);
        assert_eq!(rewriter.finish(&mut out), 2);
        assert_eq!(out, [[b'-'; 64].as_slice(), b"aaaaaab"].concat());
    }

    #[test]
    fn self_hash_in_both_forms() {
        let text = format!("x{A}y{A}");
        let mut hasher = SelfHasher::new(Algorithm::Sha256, digest(A)).with_old_hash();
        for piece in text.as_bytes().chunks(7) {
            hasher.update(piece);
        }
        let nuls = [b"x".as_slice(), &[0; 32], b"y", &[0; 32]].concat();
        let hash = hasher.finish();
        assert_eq!(hash.hash, Hash::of(Algorithm::Sha256, &nuls));
        assert_eq!(hash.old_hash, Some(Hash::of(Algorithm::Sha256, [&nuls[..], b"|1|34"].concat())));
        assert_eq!(hash.occurrences, 2);
    }

    /// Without streaming.
    fn naive(data: &[u8], pairs: &[(DigestText, [u8; DIGEST_LENGTH])]) -> (Vec<u8>, Vec<u64>) {
        let (mut out, mut positions) = (Vec::new(), Vec::new());
        while out.len() < data.len() {
            let rest = &data[out.len()..];
            match pairs.iter().find(|(old, _)| rest.starts_with(old.as_bytes())) {
                Some((_, new)) => {
                    positions.push(out.len() as u64);
                    out.extend_from_slice(new);
                }
                None => out.push(rest[0]),
            }
        }
        (out, positions)
    }

    /// Whole and broken digests, some of which overlap.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let digest = prop::sample::select(&[A, B, "00000000000000000000000000000000"][..]);
        let piece = prop_oneof![
            digest.clone().prop_map(|digest| digest.as_bytes().to_vec()),
            (digest, 0..32usize).prop_map(|(digest, cut)| digest.as_bytes()[cut..].to_vec()),
            prop::collection::vec(prop::sample::select(&b"0a/"[..]), 0..40),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn same_as_without_streaming(data in streams(), size in 1..80usize) {
            let zeros = "0".repeat(DIGEST_LENGTH);
            let pairs = [(digest(A), *digest(B).as_bytes()), (digest(B), *digest(A).as_bytes()),
                (digest(&zeros), *digest(A).as_bytes())];
            let mut rewriter = HashRewriter::new(pairs).record_positions();
            let mut out = Vec::new();
            for piece in data.chunks(size) {
                rewriter.update(piece, &mut out);
            }
            let found = rewriter.finish(&mut out);
            let (expected, positions) = naive(&data, &pairs);
            prop_assert_eq!(&out, &expected);
            prop_assert_eq!(rewriter.positions(), &positions);
            // Another stream begins anew.
            let mut again = Vec::new();
            rewriter.update(&data, &mut again);
            prop_assert_eq!(rewriter.finish(&mut again), 2 * found);
            prop_assert_eq!(again, expected);
        }

        #[test]
        fn self_hash_is_that_of_zeros_and_positions(data in streams(), size in 1..80usize) {
            let mut hasher = SelfHasher::new(Algorithm::Sha256, digest(A)).with_old_hash();
            for piece in data.chunks(size) {
                hasher.update(piece);
            }
            let (zeroed, positions) = naive(&data, &[(digest(A), [0; DIGEST_LENGTH])]);
            let listed = positions.iter().map(|position| format!("|{position}")).collect::<String>();
            prop_assert_eq!(hasher.finish(), SelfHash {
                hash: Hash::of(Algorithm::Sha256, &zeroed),
                old_hash: Some(Hash::of(Algorithm::Sha256, [&zeroed[..], listed.as_bytes()].concat())),
                occurrences: positions.len() as u64,
            });
        }

        #[test]
        fn length_and_everything_else_stay(parts in prop::collection::vec(prop_oneof![
            Just(A.as_bytes().to_vec()), Just(b"/".to_vec()), prop::collection::vec(any::<u8>(), 0..40)], 0..8),
            size in 1..80usize)
        {
            let data = parts.concat();
            let (out, positions) = rewrite(&data.chunks(size).collect::<Vec<_>>());
            let (whole, _) = rewrite(&[&data]);
            prop_assert_eq!(&out, &whole);
            prop_assert_eq!(out.len(), data.len());
            let mut restored = out;
            for position in positions {
                let place = position as usize..position as usize + 32;
                restored[place.clone()].copy_from_slice(&data[place]);
            }
            prop_assert_eq!(restored, data);
        }
    }
}
