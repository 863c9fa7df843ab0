//! What a message looks like on the wire, as data.
//!
//! Strings and numbers on the wire don't say what they are, so that even the end of a message can only be found by
//! somebody who knows what it is made of. A [`Shape`] is just enough knowledge for that. It is a constant of every type
//! that can be sent ([`Wire::SHAPE`](crate::Wire::SHAPE)), made by the same description that makes reading and writing.

use crate::version::Versions;

/// The parts of a value, as far as they are needed to find its end.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Eight bytes, little-endian.
    Number,
    /// A length, as many bytes, and zeros up to a multiple of eight.
    Bytes {
        /// The most bytes.
        limit: usize,
    },
    /// One value after the other.
    Fields {
        /// What they are together.
        name: &'static str,
        /// The fields, in their order.
        fields: &'static [Field],
    },
    /// A count, and as many values.
    List {
        /// The most values.
        limit: u64,
        /// One of them.
        element: &'static Shape,
    },
    /// A number, and unless it is 0, a value.
    Optional(&'static Shape),
    /// A number, and what belongs to that number.
    Choice {
        /// What the number is.
        name: &'static str,
        /// What may come, by number.
        cases: &'static [Case],
    },
    /// Records that each begin with a string, ended by an empty string.
    Terminated {
        /// The most bytes of the string.
        limit: usize,
        /// What follows a string that isn't empty.
        rest: &'static Shape,
    },
}

/// A value with a name, in some versions.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name, for messages.
    pub name: &'static str,
    /// The versions in which it is sent.
    pub versions: Versions,
    /// What it looks like.
    pub shape: Shape,
}

/// What follows one number of a [`Shape::Choice`].
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The number.
    pub tag: u64,
    /// What follows it.
    pub shape: Shape,
}
