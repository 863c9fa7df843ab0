//! For tests only: the `kiln` program with scratch stores, and real Nix as a peer.
//!
//! A test that needs a peer asks for it by [`NixPeer::find`]. Where the peer is missing, the test says so loudly and
//! passes over; under continuous integration (`CI=true`) a missing peer is a failure.

mod build_users;
mod kiln;
mod nix_peer;
mod recipe;
mod remains;
mod requirement;
mod scratch_directory;
mod shared_store;
mod store_contents;

pub use build_users::BuildUsers;
pub use kiln::{Kiln, Ran, SANDBOX_PATHS};
pub use nix_peer::NixPeer;
pub use recipe::Recipe;
pub use requirement::{is_continuous_integration, missing};
pub use scratch_directory::ScratchDirectory;
pub use shared_store::SharedStore;
pub use store_contents::StoreContents;
