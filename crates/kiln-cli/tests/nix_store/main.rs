//! `nix-store` by Kiln, beside real Nix's on the same store or on copies of it: the same command lines, the same answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod both;
mod changes;
mod lines;
mod random;
mod realise;
mod roles;
mod streams;
