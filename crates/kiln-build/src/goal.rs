//! Goals: things to make valid, each followed from its beginning to its end by one async function.

mod build;
mod contents;
mod derivation;
mod failures;
mod inputs;
mod origin;
mod outcome;
mod path;
mod realisations;
mod references_graphs;
mod registry;
mod remote;
mod repair;
mod resolved;
mod round;
mod substitution;
mod wanted;

pub(crate) use build::{Place, build_options, prepare};
pub(crate) use contents::{Contents, contents_are_good};
pub(crate) use derivation::{DerivationGoal, GoalError, derivation_goal, load, output_paths};
pub(crate) use failures::Failures;
pub(crate) use origin::Origins;
pub use origin::{Origin, PassedOver, Reason};
pub(crate) use outcome::{Outcome, OutcomeKind, SharedOutcome};
pub(crate) use path::repair_goal;
pub(crate) use registry::{Interest, Registry};
pub(crate) use substitution::{PathGoal, WaitingPaths, path_goal};
