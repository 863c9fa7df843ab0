//! How builds ended.

use std::collections::BTreeMap;

use kiln_events::{BuildResult, BuildStatus, Text};
use kiln_narinfo::{Realisation, RealisationId};
use kiln_store_path::{DerivedPath, StoreDir};

use crate::describe::{wire_as, wire_struct};
use crate::error::ReadError;
use crate::shape::Shape;
use crate::version::Versions;

wire_as!(
    BuildStatus,
    Shape::Number,
    |decoder| BuildStatus::from_wire_code(decoder.number()?).map_err(ReadError::value),
    |value, encoder| encoder.number(u64::from(value.wire_code()))
);

wire_struct! {
    /// How a build ended, as it is sent (both protocols: `BuildResult`).
    pub struct RealisedBuildResult {
        /// How it ended.
        pub status: BuildStatus,
        /// Why it failed; empty on success.
        pub error_message: Text,
        /// How many rounds were built.
        pub times_built: u64 [Versions::worker_since(29).serve_since(3)],
        /// Whether a difference between rounds was seen.
        pub is_non_deterministic: bool [Versions::worker_since(29).serve_since(3)],
        /// When the last round began, in seconds since the Unix epoch; 0 if it never did.
        pub start_time: u64 [Versions::worker_since(29).serve_since(3)],
        /// When it ended.
        pub stop_time: u64 [Versions::worker_since(29).serve_since(3)],
        /// User time in µs, if known.
        pub cpu_user: Option<u64> [Versions::worker_since(37).never_serve()],
        /// System time in µs, if known.
        pub cpu_system: Option<u64> [Versions::worker_since(37).never_serve()],
        /// What was realised, on success.
        pub built_outputs: BTreeMap<RealisationId, Realisation> [Versions::worker_since(28).serve_since(6)],
    }
}

impl RealisedBuildResult {
    /// The result of a build, with the realisations of its outputs: what the engine's own result lacks, which knows outputs
    /// by name alone.
    #[must_use]
    pub fn new(result: &BuildResult, realisations: impl IntoIterator<Item = Realisation>) -> Self {
        let built_outputs =
            realisations.into_iter().map(|realisation| (realisation.id.clone(), realisation)).collect();
        Self {
            status: result.status,
            error_message: result.error_message.clone(),
            times_built: result.times_built,
            is_non_deterministic: result.is_non_deterministic,
            start_time: result.start_time,
            stop_time: result.stop_time,
            cpu_user: result.cpu_user,
            cpu_system: result.cpu_system,
            built_outputs,
        }
    }

    /// The result as the engine's own. Of outputs, names and paths are left.
    #[must_use]
    pub fn into_result(self, store_dir: &StoreDir) -> BuildResult {
        let built_outputs = self.built_outputs.values().map(|realisation| {
            (realisation.id.output.to_string(), store_dir.print(&realisation.output_path))
        });
        BuildResult {
            times_built: self.times_built,
            is_non_deterministic: self.is_non_deterministic,
            start_time: self.start_time,
            stop_time: self.stop_time,
            cpu_user: self.cpu_user,
            cpu_system: self.cpu_system,
            built_outputs: built_outputs.collect(),
            ..BuildResult::failure(self.status, self.error_message)
        }
    }
}

wire_struct! {
    /// How a build ended, and of what.
    pub struct KeyedBuildResult {
        /// What was asked for.
        pub path: DerivedPath,
        /// How it ended.
        pub result: RealisedBuildResult,
    }
}
