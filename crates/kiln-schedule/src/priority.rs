//! The order among jobs that could start now.

use std::sync::Arc;

/// Where a job stands among those that are ready; the least goes first.
///
/// This is Nix's plain order: by the derivation's name, then by its path. It is deterministic, which is all that results
/// may depend on; an order by remaining critical path goes before these two fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// Name of the derivation, or of the store path.
    pub name: Arc<str>,
    /// Base name of the path, which decides between equal names.
    pub path: Arc<str>,
}

impl Priority {
    /// The plain order's priority of a store path with this name and base name.
    pub fn plain(name: impl Into<Arc<str>>, path: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), path: path.into() }
    }
}
