//! The way of one derivation: load → check outputs → realise inputs → build → register.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_derivation::{BasicDerivation, Derivation};
use kiln_events::{BuildResult, BuildStatus};
use kiln_store::{LocalStore, waiting};
use kiln_store_path::{OutputName, OutputsSpec, StorePath};

use super::outcome::{Outcome, OutcomeKind, SharedOutcome};
use super::wanted::Wanted;
use crate::engine::Core;
use crate::error::Failure;
use crate::goal::failures::FailedGoal;
use crate::goal::inputs::{InputFailure, realise_inputs};
use crate::request::BuildMode;

/// A derivation that is under way, and what is known of it.
pub(crate) struct Target {
    pub(crate) path: StorePath,
    pub(crate) derivation: Arc<Derivation>,
    /// Paths of all outputs.
    pub(crate) outputs: BTreeMap<OutputName, StorePath>,
    /// Those of its outputs and input sources that were valid when it was loaded.
    pub(super) valid: BTreeSet<StorePath>,
    /// What is done about those that are.
    pub(super) mode: BuildMode,
    /// It was given by value, so that its inputs are paths alone and nobody knows how to make them.
    pub(super) is_basic: bool,
}

/// Makes the wanted outputs of a derivation valid. One that is `given` need not be in the store.
pub(crate) async fn derivation_goal(
    core: Arc<Core>,
    path: StorePath,
    given: Option<BasicDerivation>,
    mode: BuildMode,
    wanted: Arc<Wanted>,
) -> SharedOutcome {
    let mut because_of = Vec::new();
    let outcome = match realise(&core, &path, given, mode, &wanted).await {
        Ok(outcome) => outcome,
        Err(GoalError::Failed(failure)) => Outcome::failure(OutcomeKind::Failed, failure.into_result()),
        Err(GoalError::Inputs(InputFailure { failure, failed })) => {
            because_of = failed;
            Outcome::failure(OutcomeKind::Failed, failure.into_result())
        }
        Err(GoalError::Built(result)) => Outcome::failure(OutcomeKind::Failed, *result),
    };
    if outcome.kind != OutcomeKind::Success {
        core.failures.add(path, FailedGoal { result: outcome.result.clone(), because_of });
    }
    Arc::new(outcome)
}

/// How a goal fails: by itself, because of its inputs, or in a build that has more to tell.
pub(super) enum GoalError {
    Failed(Failure),
    Inputs(InputFailure),
    Built(Box<BuildResult>),
}

impl<E: Into<Failure>> From<E> for GoalError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn realise(
    core: &Arc<Core>,
    path: &StorePath,
    given: Option<BasicDerivation>,
    mode: BuildMode,
    wanted: &Wanted,
) -> Result<Outcome, GoalError> {
    let target = Target { mode, ..load(core, path, given).await? };
    loop {
        let outputs = wanted.outputs();
        let all_valid = all_valid(core, &target, &outputs)?;
        if mode == BuildMode::Check && !all_valid {
            let path = core.store_dir().display(path);
            let message = format!("some outputs of '{path}' are not valid, so checking is not possible");
            return Err(Failure::misc(message).into());
        }
        if mode == BuildMode::Check || !all_valid {
            break;
        }
        if wanted.decide(&outputs) {
            return Ok(already_valid(core, &target, &outputs));
        }
    }
    wanted.want_all();
    let expected = core.counters.expect_build();
    realise_inputs(core, &target).await.map_err(GoalError::Inputs)?;
    super::build::build(core, target, expected).await
}

/// The derivation, which must be valid unless it is given, and which a collector now spares with its outputs and sources (D1). All of it on
/// one thread, where adding roots may wait for a collector.
pub(crate) async fn load(
    core: &Core,
    path: &StorePath,
    given: Option<BasicDerivation>,
) -> Result<Target, Failure> {
    let (store, path) = (core.store.clone(), path.clone());
    waiting(move || load_blocking(&store, path, given)).await
}

fn load_blocking(
    store: &LocalStore,
    path: StorePath,
    given: Option<BasicDerivation>,
) -> Result<Target, Failure> {
    store.add_temp_roots_blocking(std::slice::from_ref(&path))?;
    let is_basic = given.is_some();
    let derivation = match given {
        Some(given) => Arc::new(given.into_derivation()),
        None if store.path_info_blocking(&path)?.is_none() => {
            let message = format!("cannot build missing derivation '{}'", store.store_dir().display(&path));
            return Err(Failure::new(BuildStatus::MiscFailure, message));
        }
        None => store.read_derivation_blocking(&path)?,
    };
    let outputs: BTreeMap<OutputName, StorePath> =
        derivation.known_output_paths().map(|(name, path)| (name.clone(), path.clone())).collect();
    if outputs.len() != derivation.outputs.len() {
        let message = format!(
            "derivation '{}' has outputs whose paths are known only after its build (content-addressed or deferred), which \
             cannot be built yet",
            store.store_dir().display(&path)
        );
        return Err(Failure::new(BuildStatus::InputRejected, message));
    }
    let spared: Vec<StorePath> = outputs.values().chain(&derivation.input_sources).cloned().collect();
    store.add_temp_roots_blocking(&spared)?;
    let valid = store.valid_among_blocking(&spared)?;
    Ok(Target { path, derivation, outputs, valid, mode: BuildMode::Normal, is_basic })
}

/// Whether all wanted outputs are valid (D2). Wanting one that the derivation lacks is an error.
fn all_valid(core: &Core, target: &Target, wanted: &OutputsSpec) -> Result<bool, GoalError> {
    if let OutputsSpec::Names(names) = wanted {
        let missing: Vec<&str> =
            names.iter().filter(|name| !target.outputs.contains_key(*name)).map(OutputName::as_str).collect();
        if !missing.is_empty() {
            let message = format!(
                "derivation '{}' does not have wanted outputs '{}'",
                core.store_dir().display(&target.path),
                missing.join("', '")
            );
            return Err(Failure::new(BuildStatus::MiscFailure, message).into());
        }
    }
    let mut wanted = target.outputs.iter().filter(|(name, _)| wanted.contains(name));
    Ok(wanted.all(|(_, path)| target.valid.contains(path)))
}

fn already_valid(core: &Core, target: &Target, wanted: &OutputsSpec) -> Outcome {
    let outputs: BTreeMap<OutputName, StorePath> = target
        .outputs
        .iter()
        .filter(|(name, _)| wanted.contains(name))
        .map(|(name, path)| (name.clone(), path.clone()))
        .collect();
    let result =
        BuildResult { built_outputs: printed(core, &outputs), ..BuildResult::new(BuildStatus::AlreadyValid) };
    Outcome::success(result, outputs)
}

/// Outputs as a result tells them.
pub(super) fn printed(core: &Core, outputs: &BTreeMap<OutputName, StorePath>) -> BTreeMap<String, String> {
    outputs.iter().map(|(name, path)| (name.to_string(), core.store_dir().print(path))).collect()
}
