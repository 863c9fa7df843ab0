//! Archives that real Nix made or judged, archives of random trees compared with an independent implementation, and
//! damaged ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

mod golden;
mod random;
mod tree;
