//! The order among jobs that could start now.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// Where a job stands among those that are ready; the least goes first.
///
/// [Urgent](Urgency) jobs go first, if that is known of any; then it is Nix's plain order: by the derivation's name, then by
/// its path. It is deterministic. Results never depend on it, only when they are there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// How much waits for the job; the most goes first.
    pub urgency: Reverse<Urgency>,
    /// Name of the derivation, or of the store path.
    pub name: Arc<str>,
    /// Base name of the path, which decides between equal names.
    pub path: Arc<str>,
}

/// How much waits for a job. Nothing is known of [`Urgency::default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// Estimated time from the start of the job to the end of all that waits for it, had everything a slot at once: the
    /// remaining critical path.
    pub remaining: Duration,
    /// How many jobs wait for it, which decides where times are unknown or equal.
    pub dependents: u64,
}

impl Priority {
    /// The plain order's priority of a store path with this name and base name.
    pub fn plain(name: impl Into<Arc<str>>, path: impl Into<Arc<str>>) -> Self {
        Self { urgency: Reverse(Urgency::default()), name: name.into(), path: path.into() }
    }

    /// The same job, now that it is known how much waits for it.
    #[must_use]
    pub fn with_urgency(self, urgency: Urgency) -> Self {
        Self { urgency: Reverse(urgency), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urgent(seconds: u64, dependents: u64, name: &str) -> Priority {
        let remaining = Duration::from_secs(seconds);
        Priority::plain(name, name).with_urgency(Urgency { remaining, dependents })
    }

    #[test]
    fn s3_time_goes_before_dependents_and_these_before_names() {
        let order =
            [urgent(2, 0, "z"), urgent(1, 9, "y"), urgent(1, 8, "w"), urgent(1, 8, "x"), urgent(0, 10, "v")];
        assert!(order.is_sorted());
        assert_eq!(urgent(0, 0, "a"), Priority::plain("a", "a"));
        assert!(urgent(0, 1, "b") < Priority::plain("a", "a"));
    }

    #[test]
    fn s3_names_and_paths_are_compared_by_their_bytes() {
        let order = [("Z", "b"), ("a", "a"), ("a", "b"), ("a-1", "a"), ("ab", "a"), ("é", "a")];
        assert!(order.map(|(name, path)| Priority::plain(name, path)).is_sorted());
    }
}
