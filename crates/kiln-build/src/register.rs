//! From what a builder left behind to valid outputs: collect, read once, settle their paths, check, move, register in one
//! transaction.
//!
//! Everything here happens after the last process of the builder is gone. What is hashed is what is moved: the trees are
//! made the engine's own first, and nobody else can reach the directory that they are in.

mod check;
mod checks;
mod collect;
mod content;
mod outputs;
mod publish;
mod rounds;
mod settle;

pub(crate) use check::check;
pub(crate) use outputs::{Registration, collect_outputs, register};
pub(crate) use rounds::EarlierRound;
