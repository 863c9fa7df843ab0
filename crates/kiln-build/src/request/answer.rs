//! What a request asks for, and what comes of it.

use std::collections::BTreeMap;

use kiln_events::BuildResult;
use kiln_store_path::{DerivedPath, OutputName, StorePath};

use crate::goal::Origin;

/// What is done about things that are valid already. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildMode {
    /// They are left alone.
    #[default]
    Normal,
    /// They are built again elsewhere, and compared with what was made (D14). What they need is only made valid.
    Check,
    /// Those whose contents are not what they were are built again and replaced (D15), and so is what they need.
    Repair,
}

/// Things to make valid.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// What is wanted.
    pub targets: Vec<DerivedPath>,
    /// What is done about those that are valid.
    pub mode: BuildMode,
    /// Go on with what does not depend on a failure, instead of ending the request with the first one.
    pub keep_going: bool,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct BuildAnswer {
    /// One for each target, in their order.
    pub results: Vec<TargetResult>,
    /// All that failed for the request's targets, each once, those that failed by themselves first.
    pub failures: Vec<FailedDerivation>,
    /// Exit status of a program that was asked for this: 0, or as Nix gives it (1, or 100 and more).
    pub exit_status: u8,
}

/// What came of one target.
#[derive(Clone, Debug)]
pub struct TargetResult {
    /// What was asked for.
    pub target: DerivedPath,
    /// How it ended.
    pub result: BuildResult,
    /// Whether it failed only because another target did, and it was not waited for.
    pub was_cancelled: bool,
    /// Paths of the wanted outputs, if it succeeded. Empty for a target that is not a derivation.
    pub outputs: BTreeMap<OutputName, StorePath>,
    /// What substituters were asked for of this target itself, and what came of it. Empty if it was there already.
    pub origins: BTreeMap<StorePath, Origin>,
}

/// A derivation, or a path, that could not be made valid.
#[derive(Clone, Debug)]
pub struct FailedDerivation {
    /// Its path.
    pub derivation: StorePath,
    /// How it ended.
    pub result: BuildResult,
    /// Failed ones that needed this one, directly.
    pub needed_by: Vec<StorePath>,
    /// Whether it failed by itself, and not because of something that it needs.
    pub is_root: bool,
}

impl BuildAnswer {
    /// Whether all targets are valid.
    pub fn is_success(&self) -> bool {
        self.results.iter().all(|result| result.result.is_success())
    }
}
