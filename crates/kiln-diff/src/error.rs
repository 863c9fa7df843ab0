//! Why trees can't be compared at all.

use std::path::PathBuf;

/// Trees can't be compared. What goes wrong below their roots is part of the [`Report`](crate::Report) instead, as
/// [`Obstacle`](crate::Obstacle).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A root isn't there.
    #[error("cannot compare '{}' with anything: it does not exist", .0.display())]
    Missing(PathBuf),
    /// The system doesn't say what a root is.
    #[error(transparent)]
    Root(#[from] kiln_fs::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
