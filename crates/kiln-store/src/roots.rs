//! Roots: what keeps paths from being collected, and where it is.
//!
//! * links below `gcroots` and `profiles` in the state directory, and links elsewhere that those lead to ([`links`]);
//! * running processes: their programs, open files, what they have mapped, and what their environment names ([`running`]);
//! * temporary roots of processes that work with the store.

pub(crate) mod links;
pub(crate) mod running;

use std::fmt;
use std::path::PathBuf;

use kiln_store_path::StorePath;

/// A root: a path that is kept with all that it needs, and by what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// The path.
    pub path: StorePath,
    /// What keeps it.
    pub holder: Holder,
}

/// What keeps a root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A link into the store, or a file named like a path, below `gcroots` or `profiles`.
    Direct(PathBuf),
    /// A link into the store somewhere else.
    Indirect {
        /// The link.
        link: PathBuf,
        /// The link to it in `gcroots`.
        registered: PathBuf,
    },
    /// A running process, or the kernel's settings; the file below `/proc` that says so.
    Running(PathBuf),
    /// A process that has the path as a temporary root, by the name of its file, which is its number.
    Temporary(String),
}

impl Holder {
    /// Whether it is a temporary root.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary(_))
    }
}

impl fmt::Display for Holder {
    /// As `nix-store --gc --print-roots` calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(file) | Self::Indirect { link: file, .. } | Self::Running(file) => {
                file.display().fmt(f)
            }
            Self::Temporary(process) => write!(f, "{{temp:{process}}}"),
        }
    }
}

/// Roots that were found, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) roots: Vec<Root>,
    /// What is wrong with places that were passed over.
    pub(crate) warnings: Vec<String>,
}

/// Whether the machine, and not the place that was looked at, is why it could not be looked at. Then it is not to be passed
/// over: what it keeps would be deleted.
pub(crate) fn is_of_the_machine(os_error: Option<i32>) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO]
        .iter()
        .any(|errno| os_error == Some(errno.raw_os_error()))
}
