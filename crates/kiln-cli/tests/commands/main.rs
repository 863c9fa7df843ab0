//! Runs the real program, each time in a fresh directory with an environment of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod build;
mod config;
mod derivation;
mod diff;
mod hash;
mod help;
mod peer;
mod scratch;
mod store;
