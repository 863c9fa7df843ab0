//! The two sides of a comparison.

use serde::Serialize;

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What was given first.
    A,
    /// What was given second.
    B,
}

/// Something of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Pair<T> {
    /// Of what was given first.
    pub a: T,
    /// Of what was given second.
    pub b: T,
}

impl<T> Pair<T> {
    /// Of both sides.
    pub const fn new(a: T, b: T) -> Self {
        Self { a, b }
    }

    /// Both sides, borrowed.
    pub const fn as_ref(&self) -> Pair<&T> {
        Pair { a: &self.a, b: &self.b }
    }

    /// Turns both sides into something else.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Pair<U> {
        Pair { a: f(self.a), b: f(self.b) }
    }

    /// Turns both sides into something else, unless that fails.
    pub(crate) fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<Pair<U>, E> {
        Ok(Pair { a: f(self.a)?, b: f(self.b)? })
    }

    /// The sides the other way around.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self { a: self.b, b: self.a }
    }
}

impl<T: PartialEq> Pair<T> {
    /// Whether both sides are the same.
    pub fn are_equal(&self) -> bool {
        self.a == self.b
    }
}
