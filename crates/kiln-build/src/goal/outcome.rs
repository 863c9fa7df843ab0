//! How a goal ended, as those who wait for it see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_events::{BuildResult, BuildStatus};
use kiln_store_path::{OutputName, StorePath};

use super::origin::Origins;
use crate::error::Failure;

/// How a goal ended (S2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutcomeKind {
    Success,
    Failed,
    /// Nobody offers the path.
    NoSubstituters,
    /// Somebody offers it, and nobody what it refers to.
    IncompleteClosure,
}

/// The end of a goal.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: OutcomeKind,
    pub(crate) result: BuildResult,
    /// Paths of the outputs that are valid now; all outputs where the derivation was built.
    pub(crate) outputs: BTreeMap<OutputName, StorePath>,
    /// What was asked of substituters for it itself.
    pub(crate) origins: Origins,
}

/// Shared by all who waited.
pub(crate) type SharedOutcome = Arc<Outcome>;

impl Outcome {
    pub(crate) fn success(result: BuildResult, outputs: BTreeMap<OutputName, StorePath>) -> Self {
        Self { kind: OutcomeKind::Success, result, outputs, origins: Origins::new() }
    }

    pub(crate) fn failure(kind: OutcomeKind, result: BuildResult) -> Self {
        Self { kind, result, outputs: BTreeMap::new(), origins: Origins::new() }
    }

    /// A goal whose task ended without a result: it panicked.
    pub(crate) fn lost() -> SharedOutcome {
        let message = "the build ended because of a bug in Kiln; its log may tell more";
        Arc::new(Self::failure(OutcomeKind::Failed, BuildResult::failure(BuildStatus::MiscFailure, message)))
    }
}

impl Failure {
    /// The result of a goal that failed like this.
    pub(crate) fn into_result(self) -> BuildResult {
        BuildResult { log_tail: self.log_tail, ..BuildResult::failure(self.status, self.message) }
    }
}
