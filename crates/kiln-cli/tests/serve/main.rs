//! `kiln serve`, met by real Nix, by Kiln, and by clients that ask for what they should not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod answers;
mod cutting_proxy;
mod kiln_client;
mod lifecycle;
mod nix_client;
mod serving;

const KILN: &str = env!("CARGO_BIN_EXE_kiln");
