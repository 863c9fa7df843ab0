//! Scheduling policy: which job runs next, and when a build has run for too long.
//!
//! Nothing here waits, reads a clock or starts anything. The [`Scheduler`] is a step function: the engine tells it what
//! happened ([`Scheduler::submit`], [`Scheduler::finish`]) and it answers with the jobs to start now. A [`Watchdog`] is
//! told about a builder's output and the time, and answers when to look again or that a limit is exceeded. So both can
//! be tested and simulated in virtual time, at any scale; `tests/simulation` does.
//!
//! Which goal depends on which is not this crate's affair: a goal submits a job only when its own inputs are there. The
//! order among jobs that are ready is one value, the [`Priority`] of each, so that a better policy is a better way to
//! compute it. It has a place for what is known of the critical path ([`Urgency`]).

mod priority;
mod scheduler;
mod watchdog;

pub use priority::{Priority, Urgency};
pub use scheduler::{Job, JobId, JobKind, Scheduler, Slots};
pub use watchdog::{Exceeded, Limits, Watchdog};
