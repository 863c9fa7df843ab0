//! What is counted while a program runs, and the text by which Prometheus reads it.
//!
//! Counting costs an atomic addition or two, so that it can be done wherever something happens, whether anybody reads it or
//! not. There is no registry: who counts holds the counters as fields, and [`Exposition`] writes down those that it is given.
//! Nothing here looks at a clock; durations are handed in.

mod counter;
mod exposition;
mod histogram;

pub use counter::{Counter, Gauge};
pub use exposition::{Exposition, Kind, Sample};
pub use histogram::Histogram;
