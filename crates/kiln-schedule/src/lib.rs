//! Scheduling policy: which job runs next, when a build has run for too long, and when a server that fails is left alone.
//!
//! Nothing here waits, reads a clock or starts anything. The [`Scheduler`] is a step function: the engine tells it what
//! happened ([`Scheduler::submit`], [`Scheduler::finish`]) and it answers with the jobs to start now. A [`Watchdog`] is
//! told about a builder's output and the time, and answers when to look again or that a limit is exceeded. A [`Breaker`] is
//! told how a server fares, and answers whether it is asked again. So all of them can be tested and simulated in virtual
//! time, at any scale; `tests/simulation` does.
//!
//! Jobs are submitted for a [`Client`] of some user: users share the slots evenly, and a client has a limit of its own.
//!
//! A job is submitted only when what it needs is there. The order among those that are ready is one value, the [`Priority`]
//! of each. What waits for whom is known to [`CriticalPaths`], which estimate the [`Urgency`] of each, and again when more is
//! found out ([`Scheduler::reprioritise`]).

mod breaker;
mod client;
mod critical_path;
mod pool;
mod priority;
mod scheduler;
mod watchdog;

pub use breaker::{Admission, Breaker, BreakerPolicy, BreakerState, Outcome};
pub use client::{Client, ClientId, UserId};
pub use critical_path::CriticalPaths;
pub use priority::{Priority, Urgency};
pub use scheduler::{Job, JobId, JobKind, Scheduler, SlotUse, Slots, WaitingJob};
pub use watchdog::{Exceeded, Limits, Watchdog};
