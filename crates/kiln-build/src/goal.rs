//! Goals: things to make valid, each followed from its beginning to its end by one async function.

mod build;
mod derivation;
mod failures;
mod inputs;
mod outcome;
mod path;
mod references_graphs;
mod registry;
mod round;
mod wanted;

pub(crate) use build::{Place, prepare};
pub(crate) use derivation::{derivation_goal, load};
pub(crate) use failures::Failures;
pub(crate) use outcome::{Outcome, OutcomeKind, SharedOutcome};
pub(crate) use path::path_goal;
pub(crate) use registry::{Interest, Registry};
pub(crate) use wanted::Wanted;
