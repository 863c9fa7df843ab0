//! For tests only: the `kiln` program with scratch stores, real Nix as a peer, web servers that fail on demand or speak TLS, and a
//! server of ssh.
//!
//! A test that needs a peer asks for it by [`NixPeer::find`]. Where the peer is missing, the test says so loudly and
//! passes over; under continuous integration (`CI=true`) a missing peer is a failure.

mod bucket_server;
mod build_users;
mod daemon;
mod hook_recordings;
mod installed_nix;
mod kiln;
mod newer_nix;
mod nix_peer;
mod random_numbers;
mod recipe;
mod recorded_disk;
mod remains;
mod requirement;
mod scratch_directory;
mod shared_store;
mod ssh_server;
mod store_contents;
mod tls_server;
mod web_server;

pub use bucket_server::{BucketServer, Uploads};
pub use build_users::BuildUsers;
pub use daemon::{Daemon, signal};
pub use hook_recordings::HOOK_RECORDINGS;
pub use installed_nix::build_hook_of_nix;
pub use kiln::{Kiln, Ran, SANDBOX_PATHS, sandbox_paths_of_nix};
pub use newer_nix::{NewerNix, OwnDaemon, Server};
pub use nix_peer::NixPeer;
pub use random_numbers::RandomNumbers;
pub use recipe::Recipe;
pub use recorded_disk::{RecordedDisk, Recording};
pub use requirement::{is_continuous_integration, missing, needs_root};
pub use scratch_directory::ScratchDirectory;
pub use shared_store::SharedStore;
pub use ssh_server::{ALONE, SshServer, remote_program};
pub use store_contents::StoreContents;
pub use tls_server::{TlsAnswer, TlsRequest, TlsServer};
pub use web_server::{Fault, WebServer};
