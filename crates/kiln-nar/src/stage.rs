//! What rides along on the stream of an archive: stages that see every byte once, in order.
//!
//! Stages compose: a pair is a stage, and so is an optional one. One read of a tree thus feeds the hash, the scan for
//! references and whatever else wants the bytes.

use kiln_hash::{Sha256, Sha256Hasher};

/// Sees the bytes of a stream, piece after piece. How the stream is cut into pieces makes no difference.
pub trait Stage {
    /// The next piece.
    fn update(&mut self, piece: &[u8]);
}

impl<S: Stage + ?Sized> Stage for &mut S {
    fn update(&mut self, piece: &[u8]) {
        (**self).update(piece);
    }
}

impl<S: Stage> Stage for Option<S> {
    fn update(&mut self, piece: &[u8]) {
        if let Some(stage) = self {
            stage.update(piece);
        }
    }
}

impl<A: Stage, B: Stage> Stage for (A, B) {
    fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
        self.1.update(piece);
    }
}

/// Sees nothing.
impl Stage for () {
    fn update(&mut self, _: &[u8]) {}
}

/// SHA-256 and size of an archive, by which a store knows the contents of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NarDigest {
    /// SHA-256 of the archive.
    pub hash: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// Takes hash and size of a stream.
#[derive(Clone, Default)]
pub struct NarHasher {
    hasher: Sha256Hasher,
    size: u64,
}

impl NarHasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes seen so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hash and size of what was seen.
    #[must_use]
    pub fn finish(self) -> NarDigest {
        NarDigest { hash: self.hasher.finish(), size: self.size }
    }
}

impl Stage for NarHasher {
    fn update(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        self.size = self.size.saturating_add(piece.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_options_see_everything() {
        let mut stages = ((NarHasher::new(), None::<NarHasher>), (Some(NarHasher::new()), ()));
        stages.update(b"ab");
        stages.update(b"c");
        let expected = NarDigest { hash: Sha256::of(b"abc"), size: 3 };
        assert_eq!(stages.0.0.finish(), expected);
        assert_eq!(stages.1.0.unwrap().finish(), expected);
    }
}
