//! Substituters with real stores, real servers on the loopback interface, and caches that real Nix wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

mod bench;
mod broken_fetches;
mod broken_lookups;
mod closures;
mod golden;
mod health;
mod hostile;
mod known;
mod nix_peer;
mod order;
mod tls;
