//! What can go wrong in a hook.

use std::io;
use std::path::PathBuf;

use kiln_derivation::HasInputDerivations;
use kiln_protocol::ReadError;
use kiln_store_path::InvalidStorePath;

/// An error of the hook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the engine says makes no sense.
    #[error("cannot understand what the engine says: {0}")]
    Question(#[from] ReadError),
    /// A number that neither announces a setting nor ends them.
    #[error("cannot understand what the engine says: expected 0 or 1 before a setting, got {0}")]
    Number(u64),
    /// There are more settings than make sense.
    #[error("the engine has more than {0} settings")]
    Settings(usize),
    /// The engine can't be heard.
    #[error("cannot hear the engine: {0}")]
    Engine(io::Error),
    /// A file by which hooks share machines.
    #[error("cannot use '{}', by which machines are shared: {source}", .path.display())]
    Slots {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is said to be a path of the store, and isn't.
    #[error(transparent)]
    Path(#[from] InvalidStorePath),
    /// A derivation that cannot be sent.
    #[error(transparent)]
    Derivation(#[from] HasInputDerivations),
    /// A machine of a kind on which nothing can be built.
    #[error(
        "builds cannot be sent to '{0}': expected 'ssh-ng://HOST', 'ssh://HOST', 'unix://SOCKET', or a directory with a store of \
         its own"
    )]
    Machine(String),
    /// A machine whose paths begin otherwise.
    #[error("the paths of '{machine}' begin with '{found}', and those of this store with '{expected}'")]
    OtherStore {
        /// The machine.
        machine: String,
        /// What its paths begin with.
        found: String,
        /// What they should begin with.
        expected: String,
    },
    /// The URL of a machine.
    #[error(transparent)]
    Url(#[from] kiln_settings::StoreUrlError),
    /// Where a machine is.
    #[error(transparent)]
    Address(#[from] kiln_remote::AddressError),
    /// The machine.
    #[error(transparent)]
    Remote(#[from] kiln_remote::Error),
    /// The store of this machine.
    #[error(transparent)]
    Store(#[from] kiln_store::Error),
    /// Copying.
    #[error(transparent)]
    Copy(#[from] kiln_cache::Error),
    /// The machine has not told what became of an output.
    #[error("the machine does not say where output '{0}' is")]
    Output(String),
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
