//! The builtins, run as a builder's process would, with real servers on the loopback interface and real Nix as a peer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may fail")]

mod archives;
mod bench;
mod buildenv;
mod credentials;
mod faults;
mod fetchurl;
mod mirrors;
mod nix_peer;
mod proxies;
mod server;
mod tls;
mod unpack;
mod unpack_channel;
