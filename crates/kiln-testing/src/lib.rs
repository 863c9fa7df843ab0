//! For tests only: real Nix as a peer, in scratch directories of its own.
//!
//! A test that needs a peer asks for it by [`NixPeer::find`]. Where the peer is missing, the test says so loudly and
//! passes over; under continuous integration (`CI=true`) a missing peer is a failure.

mod nix_peer;
mod requirement;

pub use nix_peer::NixPeer;
pub use requirement::{is_continuous_integration, missing};
