//! The build engine: from a request to registered outputs.
//!
//! The folders are the stages, in the order in which data flows through them:
//!
//! | folder | from → to |
//! | --- | --- |
//! | `request` | what a caller asks → goals → the answer |
//! | `goal` | the way of one thing, from top to bottom; one goal per thing |
//! | `plan` | a derivation and facts of its store → [`BuildPlan`], a value that can be printed |
//! | `execute` | a plan → how its builder ended |
//! | `build_hook` | a derivation → another machine that builds it |
//! | `log` | the builder's bytes → lines, activities, tail, log file |
//! | `register` | what the builder left → valid outputs |
//!
//! An [`Engine`] serves any number of requests at once. What several of them want is built once, and goes on as long as
//! one of them wants it. It needs a tokio runtime; nothing in it blocks one.

mod audience;
mod build_hook;
mod builtin;
mod core;
mod counters;
mod discovery;
mod durations;
mod engine;
mod error;
mod execute;
mod figures;
mod goal;
mod hooks;
mod leftovers;
mod log;
mod occupancy;
mod plan;
mod profile;
mod register;
mod request;
mod slots;
mod space;
mod substituters;
mod tidier;
mod urgency;

pub use builtin::run_builtin;
pub use engine::Engine;
pub use error::{EngineError, Failure};
pub use figures::{BuildPlace, Figures};
pub use goal::{Origin, PassedOver, Reason};
pub use kiln_schedule::{SlotUse, UserId};
pub use occupancy::{Occupancy, WaitingJob};
pub use plan::{BuildPlan, PlannedOutput, network_program};
pub use request::{BuildAnswer, BuildMode, BuildRequest, FailedDerivation, Missing, TargetResult};
pub use substituters::{cache_directory, surroundings};
