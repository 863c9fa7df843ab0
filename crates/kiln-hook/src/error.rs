//! What can go wrong in a hook.

use std::io;
use std::path::PathBuf;

use kiln_protocol::ReadError;

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
    #[error("'{path}' is not a path of the store: {reason}")]
    Path {
        /// The text.
        path: String,
        /// Why.
        reason: String,
    },
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
    /// An output whose content is known in advance, and that is said to be something else.
    #[error("the machine does not say of '{path}' that its content is '{expected}': it says {}", shown(.found.as_ref()))]
    Content {
        /// The output.
        path: String,
        /// What it must be.
        expected: String,
        /// What it is said to be.
        found: Option<String>,
    },
    /// The machine has not told what became of an output.
    #[error("the machine does not say where output '{0}' is")]
    Output(String),
}

fn shown(address: Option<&String>) -> String {
    address.map_or_else(|| "nothing about that".to_owned(), |address| format!("'{address}'"))
}

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
