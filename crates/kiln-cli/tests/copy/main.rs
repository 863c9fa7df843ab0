//! Paths that are copied between stores and caches, with real Nix at the other end: what Kiln writes it reads, and the
//! other way round.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod buckets;
mod clones;
mod collecting;
mod content_addressed;
mod daemons;
mod interrupted;
mod local_stores;
mod over_ssh;
mod reading;
mod realisations;
mod server;
mod serving;
mod signing;
mod world;
mod writing;
