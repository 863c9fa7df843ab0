//! The way of one derivation: load → check outputs → substitute → realise inputs → build → register.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;
use kiln_derivation::{BasicDerivation, BuildOptions, Derivation, ExperimentalFeature};
use kiln_events::{BuildResult, BuildStatus, Verbosity};
use kiln_store::{LocalStore, waiting};
use kiln_store_path::{OutputName, OutputsSpec, StorePath};
use kiln_substitute::Existing;
use tokio::sync::Semaphore;

use super::contents::contents_are_good;
use super::outcome::{Outcome, OutcomeKind, SharedOutcome};
use super::realisations::{find_realisations, keep_realisations};
use super::repair::repair_closure;
use super::resolved::{must_be_resolved, realise_resolved};
use super::wanted::Wanted;
use crate::audience::Audience;
use crate::core::Core;
use crate::counters::Work;
use crate::discovery::Discovering;
use crate::error::Failure;
use crate::goal::failures::FailedGoal;
use crate::goal::inputs::{InputFailure, realise_inputs};
use crate::request::BuildMode;

/// How many derivations are loaded at once: more would only wait for each other, and for the same collector.
const LOADS_AT_ONCE: usize = 8;

static LOADS: Semaphore = Semaphore::const_new(LOADS_AT_ONCE);

/// What those who want a derivation's goal tell it, and whom it tells.
pub(crate) struct DerivationGoal {
    pub(crate) wanted: Wanted,
    pub(crate) audience: Arc<Audience>,
    /// Holds the goal's temporary roots as long as anybody wants it, also when it has ended.
    _roots: LocalStore,
}

impl DerivationGoal {
    pub(crate) fn new(outputs: OutputsSpec, core: &Core) -> Self {
        let audience = Arc::clone(&core.audience);
        Self { wanted: Wanted::new(outputs), audience, _roots: core.store.clone() }
    }
}

/// A derivation that is under way, and what is known of it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) path: StorePath,
    pub(crate) derivation: Arc<Derivation>,
    /// Paths of its outputs: of those that follow from content, as far as they were made before.
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
    goal: Arc<DerivationGoal>,
    discovering: Discovering,
) -> SharedOutcome {
    let mut because_of = Vec::new();
    let mut outcome = match realise(&core, &path, given, mode, &goal.wanted, discovering).await {
        Ok(outcome) => outcome,
        Err(GoalError::Failed(failure)) => Outcome::failure(OutcomeKind::Failed, failure.into_result()),
        Err(GoalError::Inputs(InputFailure { failure, failed })) => {
            because_of = failed;
            Outcome::failure(OutcomeKind::Failed, failure.into_result())
        }
        Err(GoalError::Resolved { resolved, result }) => {
            because_of = vec![resolved];
            Outcome::failure(OutcomeKind::Failed, *result)
        }
        Err(GoalError::Built(result)) => Outcome::failure(OutcomeKind::Failed, *result),
    };
    outcome.origins = std::mem::take(&mut *core.origins.lock().unwrap_or_else(PoisonError::into_inner));
    if outcome.kind != OutcomeKind::Success {
        core.failures.add(path, FailedGoal { result: outcome.result.clone(), because_of });
    }
    Arc::new(outcome)
}

/// How a goal fails: by itself, because of its inputs or of what it resolves to, or in a build that has more to tell.
pub(crate) enum GoalError {
    Resolved { resolved: StorePath, result: Box<BuildResult> },
    Failed(Failure),
    Inputs(InputFailure),
    Built(Box<BuildResult>),
}

impl GoalError {
    /// How that counts.
    pub(crate) fn status(&self) -> BuildStatus {
        match self {
            Self::Failed(failure) => failure.status,
            Self::Inputs(inputs) => inputs.failure.status,
            Self::Resolved { result, .. } | Self::Built(result) => result.status,
        }
    }
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
    discovering: Discovering,
) -> Result<Outcome, GoalError> {
    if given.is_none() {
        substitute_derivation(core, path).await?;
    }
    let mut target = Target { mode, ..load(core, path, given).await? };
    // Where what was substituted comes from: nowhere yet, or there was something but not what it refers to.
    let mut substituted = Substituted::Nothing;
    let mut has_tried = BTreeSet::new();
    loop {
        let outputs = wanted.outputs();
        let mut all_good = all_good(core, &target, &outputs).await?;
        if !all_good {
            substituted = Box::pin(substitute_outputs(core, &mut target, &outputs, &mut has_tried)).await?;
            all_good = substituted == Substituted::All;
        }
        if mode == BuildMode::Check && !all_good {
            let path = core.store_dir().display(path);
            let message = format!("some outputs of '{path}' are not valid, so checking is not possible");
            return Err(Failure::misc(message).into());
        }
        if mode == BuildMode::Check || !all_good {
            break;
        }
        if wanted.decide(&outputs) {
            return Box::pin(without_build(core, &target, &outputs, substituted)).await;
        }
    }
    // Of very many goals that are wanted at once, most find all they are to make, or wait: they take no more than that needs.
    Box::pin(make(core, target, wanted, (substituted, has_tried), discovering)).await
}

/// Makes all outputs of a derivation, wherever they can be had; those that have been tried to be substituted are not tried again.
async fn make(
    core: &Arc<Core>,
    mut target: Target,
    wanted: &Wanted,
    (substituted, mut has_tried): (Substituted, BTreeSet<StorePath>),
    discovering: Discovering,
) -> Result<Outcome, GoalError> {
    wanted.want_all();
    let expected = core.audience.expect(Work::BUILD);
    let _waits = core.waits_for_inputs(&target.path, &target.derivation);
    let mut discovering = Some(discovering);
    let made = realise_inputs(core, &target, &mut discovering).await.map_err(GoalError::Inputs)?;
    if substituted == Substituted::Incomplete {
        // What the inputs have brought may be what it lacked.
        has_tried.clear();
        let all = OutputsSpec::All;
        let again = Box::pin(substitute_outputs(core, &mut target, &all, &mut has_tried));
        if again.await? == Substituted::All {
            drop(expected);
            return Box::pin(without_build(core, &target, &all, Substituted::All)).await;
        }
    }
    if must_be_resolved(core, &target).await? {
        drop((expected, discovering));
        return Box::pin(realise_resolved(core, &target, &made)).await;
    }
    Box::pin(super::build::build(core, target, expected, discovering)).await
}

impl Target {
    /// Those of its outputs whose paths are known that are wanted.
    fn wanted(&self, wanted: &OutputsSpec) -> BTreeMap<OutputName, StorePath> {
        let outputs = self.outputs.iter().filter(|(name, _)| wanted.contains(name));
        outputs.map(|(name, path)| (name.clone(), path.clone())).collect()
    }
}

/// Fetches a derivation that is not in the store (D1). Whether that helped shows when it is loaded.
async fn substitute_derivation(core: &Core, path: &StorePath) -> Result<(), Failure> {
    if !core.store.is_valid(path).await? && core.substituters().await.is_some() {
        core.want_path(path, Existing::Stays).result().await;
    }
    Ok(())
}

/// What came of substituting outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Substituted {
    /// Nothing was to be had, or all was there.
    Nothing,
    /// All that was wanted.
    All,
    /// Somebody has some of it, but not what that refers to.
    Incomplete,
}

/// Substitutes those of the wanted outputs that are not valid, or in a repair not good, if that is allowed (D3), each once.
async fn substitute_outputs(
    core: &Core,
    target: &mut Target,
    wanted: &OutputsSpec,
    has_tried: &mut BTreeSet<StorePath>,
) -> Result<Substituted, Failure> {
    let Some(substituters) = core.substituters().await else { return Ok(Substituted::Nothing) };
    let allows = BuildOptions::of(&target.derivation).is_ok_and(|options| options.allow_substitutes);
    if !allows && !core.settings.always_allow_substitutes {
        return Ok(Substituted::Nothing);
    }
    let realisations = find_realisations(core, substituters, target, wanted).await?;
    let substituted = substitute_known(core, target, wanted, has_tried).await;
    keep_realisations(core, target, realisations).await?;
    substituted
}

/// Substitutes the wanted outputs if the paths of all are known.
async fn substitute_known(
    core: &Core,
    target: &mut Target,
    wanted: &OutputsSpec,
    has_tried: &mut BTreeSet<StorePath>,
) -> Result<Substituted, Failure> {
    let outputs = target.wanted(wanted);
    let mut missing = Vec::new();
    for path in outputs.values().filter(|path| !has_tried.contains(*path)) {
        if !is_good(core, target, path).await? {
            missing.push(path.clone());
        }
    }
    let is_known = |name: &OutputName| outputs.contains_key(name);
    let mut names = target.derivation.outputs.keys().filter(|name| wanted.contains(name));
    if missing.is_empty() || !names.all(is_known) {
        return Ok(Substituted::Nothing);
    }
    let existing = if target.mode == BuildMode::Repair { Existing::IsReplaced } else { Existing::Stays };
    let goals: Vec<_> = missing.iter().map(|path| core.want_path(path, existing)).collect();
    let outcomes = join_all(goals.iter().map(|goal| goal.result())).await;
    let outcomes: Vec<SharedOutcome> =
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(Outcome::lost)).collect();
    note_origins(core, &outcomes);
    let kinds: Vec<OutcomeKind> = outcomes.iter().map(|outcome| outcome.kind).collect();
    let fetched = missing.iter().zip(&kinds).filter(|(_, kind)| **kind == OutcomeKind::Success);
    fetched.for_each(|(path, _)| core.contents.made(path));
    has_tried.extend(missing);
    target.valid.extend(core.valid(outputs.values()).await?);
    if kinds.contains(&OutcomeKind::Failed) && !core.settings.fallback {
        return Err(Failure::new(
            BuildStatus::TransientFailure,
            format!(
                "some substitutes for the outputs of derivation '{}' failed (usually happens due to networking issues); try \
                 '--fallback' to build derivation from source",
                core.store_dir().display(&target.path)
            ),
        ));
    }
    let mut all_good = true;
    for path in outputs.values() {
        all_good = all_good && is_good(core, target, path).await?;
    }
    Ok(if all_good {
        Substituted::All
    } else if kinds.contains(&OutcomeKind::IncompleteClosure) {
        Substituted::Incomplete
    } else {
        Substituted::Nothing
    })
}

/// Remembers what substituters have said of outputs, and tells who wants to know much why some are not fetched.
fn note_origins(core: &Core, outcomes: &[SharedOutcome]) {
    let mut origins = core.origins.lock().unwrap_or_else(PoisonError::into_inner);
    for (path, origin) in outcomes.iter().flat_map(|outcome| &outcome.origins) {
        if origin.substituter.is_none() {
            let path = core.store_dir().display(path);
            core.events.message(Verbosity::Talkative, format!("path '{path}' is not fetched:{origin}"));
        }
        origins.insert(path.clone(), origin.clone());
    }
}

/// The derivation, which must be valid unless it is given, and which a collector now spares with its outputs and sources (D1). All of it on
/// one thread, where adding roots may wait for a collector.
pub(crate) async fn load(
    core: &Core,
    path: &StorePath,
    given: Option<BasicDerivation>,
) -> Result<Target, Failure> {
    let (store, path) = (core.store.clone(), path.clone());
    // The semaphore is never closed.
    let turn = LOADS.acquire().await.ok();
    waiting(move || {
        let loaded = load_blocking(&store, path, given);
        drop(turn);
        loaded
    })
    .await
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
    check_features(store, &path, &derivation)?;
    let outputs = output_paths(store, &path, &derivation)?;
    let spared: Vec<StorePath> = outputs.values().chain(&derivation.input_sources).cloned().collect();
    store.add_temp_roots_blocking(&spared)?;
    let valid = store.valid_among_blocking(&spared)?;
    Ok(Target { path, derivation, outputs, valid, mode: BuildMode::Normal, is_basic })
}

/// Refuses what this engine cannot build, or builds only for a store that is made for it.
fn check_features(store: &LocalStore, path: &StorePath, derivation: &Derivation) -> Result<(), Failure> {
    let refused = |why: String| {
        let path = store.store_dir().display(path);
        Failure::new(BuildStatus::InputRejected, format!("cannot build derivation '{path}': {why}"))
    };
    for feature in derivation.experimental_features() {
        match feature {
            ExperimentalFeature::CaDerivations if store.config().realisations => {}
            ExperimentalFeature::CaDerivations => {
                let name = feature.name();
                return Err(refused(format!(
                    "experimental Nix feature '{name}' is disabled; use '--extra-experimental-features {name}' to override"
                )));
            }
            ExperimentalFeature::Blake3Hashes => {}
            unsupported => {
                return Err(refused(format!("it needs '{}', which is not supported", unsupported.name())));
            }
        }
    }
    Ok(())
}

/// The paths of outputs, as far as they are known: those that follow from content, if it was made before.
pub(crate) fn output_paths(
    store: &LocalStore,
    path: &StorePath,
    derivation: &Arc<Derivation>,
) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
    let mut outputs: BTreeMap<OutputName, StorePath> =
        derivation.known_output_paths().map(|(name, path)| (name.clone(), path.clone())).collect();
    if outputs.len() == derivation.outputs.len() {
        return Ok(outputs);
    }
    let hash = store.hash_modulo_blocking(path, derivation)?;
    for name in derivation.outputs.keys() {
        if let Some(made) = store.realisation_blocking(&hash.realisation_id(name.clone()))? {
            outputs.insert(name.clone(), made.output_path);
        }
    }
    Ok(outputs)
}

/// Whether all wanted outputs are valid, and in a repair their contents are what they were (D2). Wanting one that the
/// derivation lacks is an error.
async fn all_good(core: &Core, target: &Target, wanted: &OutputsSpec) -> Result<bool, GoalError> {
    if let OutputsSpec::Names(names) = wanted {
        let has = |name: &&OutputName| target.derivation.outputs.contains_key(*name);
        let missing: Vec<&str> = names.iter().filter(|name| !has(name)).map(OutputName::as_str).collect();
        if !missing.is_empty() {
            let message = format!(
                "derivation '{}' does not have wanted outputs '{}'",
                core.store_dir().display(&target.path),
                missing.join("', '")
            );
            return Err(Failure::new(BuildStatus::MiscFailure, message).into());
        }
    }
    for name in target.derivation.outputs.keys().filter(|name| wanted.contains(name)) {
        let Some(path) = target.outputs.get(name) else { return Ok(false) };
        if !is_good(core, target, path).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an output is valid, and in a repair its contents are what they were.
async fn is_good(core: &Core, target: &Target, path: &StorePath) -> Result<bool, Failure> {
    let is_valid = target.valid.contains(path);
    Ok(is_valid && (target.mode != BuildMode::Repair || contents_are_good(core, path).await?))
}

/// The end of a goal whose wanted outputs are there without a build. In a repair, what they refer to is repaired first (D15).
async fn without_build(
    core: &Core,
    target: &Target,
    wanted: &OutputsSpec,
    substituted: Substituted,
) -> Result<Outcome, GoalError> {
    let outputs = target.wanted(wanted);
    if target.mode != BuildMode::Repair {
        return Ok(already_valid(core, outputs, substituted));
    }
    repair_closure(core, target, &outputs.values().cloned().collect()).await?;
    Ok(already_valid(core, outputs, Substituted::Nothing))
}

fn already_valid(core: &Core, outputs: BTreeMap<OutputName, StorePath>, substituted: Substituted) -> Outcome {
    let status = match substituted {
        Substituted::All => BuildStatus::Substituted,
        Substituted::Nothing | Substituted::Incomplete => BuildStatus::AlreadyValid,
    };
    let result = BuildResult { built_outputs: printed(core, &outputs), ..BuildResult::new(status) };
    Outcome::success(result, outputs)
}

/// Outputs as a result tells them.
pub(super) fn printed(core: &Core, outputs: &BTreeMap<OutputName, StorePath>) -> BTreeMap<String, String> {
    outputs.iter().map(|(name, path)| (name.to_string(), core.store_dir().print(path))).collect()
}
