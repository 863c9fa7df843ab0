//! Where two trees of files differ.
//!
//! When a build that is repeated or checked leaves something else than before, that its hash differs says little.
//! [`compare_trees`] says *where*: what is in one tree only, what has another type, executable bit or target, which
//! files have other contents, from which byte on, and what is recognised there: a date in the header of an archive's
//! member, a build-id, a build path, lines in another order.
//!
//! * Only what an archive (NAR) tells of a tree counts: names, types, contents, executable bits and targets of links. So
//!   trees without differences have the same archive, and differences come in its order.
//! * Trees may be hostile, as builders are. They are walked by descriptor and never through a link, nothing but
//!   directories and regular files is opened, and what is read of formats is believed only after it was checked.
//! * Time is linear in the data and memory is bounded by [`Limits`], whatever the size of files, directories and trees:
//!   files are read through two windows. What a limit left out is said in the [`Report`].
//!
//! A [`Report`] is data. It is shown to people by its [`Display`](std::fmt::Display), and to programs as JSON; see there
//! for the shape. [`compare_contents`] does for two byte strings what is done for each pair of files.

mod byte_string;
mod calendar;
mod comparison;
mod contents;
mod error;
mod integers;
mod limits;
mod listing;
mod pair;
mod recognise;
mod report;
mod subtree;
mod tree;

pub use byte_string::ByteString;
pub use comparison::compare_contents;
pub use contents::Contents;
pub use error::{Error, Result};
pub use limits::Limits;
pub use pair::{Pair, Side};
pub use report::content::{
    ContentDifference, Context, Field, Finding, Format, Observation, PartContents, Trace,
};
pub use report::{Change, Difference, NodeKind, Obstacle, Report, Totals};
pub use tree::compare_trees;
