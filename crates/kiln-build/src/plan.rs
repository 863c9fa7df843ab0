//! From a derivation and what is known of its store to a plan: a value that says all that will be done, and that can be
//! printed. Nothing here does I/O.

mod build_plan;
mod confinement;
mod fixed_network;
mod scratch;

pub use build_plan::{BuildPlan, PlannedOutput};
pub(crate) use build_plan::{Facts, PlanError, make_plan};
pub(crate) use confinement::{Confined, is_confined, is_fixed};
pub(crate) use fixed_network::FixedNetwork;
pub use fixed_network::network_program;
pub(crate) use scratch::ScratchPaths;
