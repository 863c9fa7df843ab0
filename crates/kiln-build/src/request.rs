//! Requests: what callers ask of the engine.

mod answer;
mod build_derivation;
mod build_paths;
mod plan;
mod query_missing;
mod repair_path;
mod survey;

pub use answer::{BuildAnswer, BuildMode, BuildRequest, FailedDerivation, TargetResult};
pub use query_missing::Missing;
