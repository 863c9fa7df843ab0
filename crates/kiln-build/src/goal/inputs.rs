//! Making a derivation's inputs valid, and knowing what its builder may read of them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use kiln_events::BuildStatus;
use kiln_store_path::{OutputsSpec, StorePath};
use kiln_substitute::Existing;
use std::sync::Arc;

use super::derivation::Target;
use super::outcome::{Outcome, OutcomeKind, SharedOutcome};
use crate::core::Core;
use crate::discovery::Discovering;
use crate::error::Failure;
use crate::request::BuildMode;

/// Inputs that could not be had.
pub(crate) struct InputFailure {
    pub(super) failure: Failure,
    /// The paths of those that failed.
    pub(super) failed: Vec<StorePath>,
}

impl From<Failure> for InputFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, failed: Vec::new() }
    }
}

/// What input derivations have made.
pub(super) type MadeInputs = BTreeMap<StorePath, SharedOutcome>;

/// Makes all inputs valid (D4), or good in a repair. Unless the engine keeps going, the first that fails ends the wait, and what nobody else
/// wants of the others is given up.
///
/// Where there is something to be made first, it is known what is needed when `discovering` is taken.
pub(super) async fn realise_inputs(
    core: &Arc<Core>,
    target: &Target,
    discovering: &mut Option<Discovering>,
) -> Result<MadeInputs, InputFailure> {
    let store_dir = core.store_dir();
    realise_sources(core, target).await?;
    let mode = if target.mode == BuildMode::Repair { BuildMode::Repair } else { BuildMode::Normal };
    let mut waiting: FuturesUnordered<_> = target
        .derivation
        .input_derivations
        .iter()
        .map(|(path, outputs)| {
            let goal = core.want_derivation(path, OutputsSpec::Names(outputs.outputs().clone()), mode);
            async move {
                let outcome = goal.result().await.unwrap_or_else(Outcome::lost);
                (path, core.keep(outcome).await)
            }
        })
        .collect();
    if !waiting.is_empty() {
        *discovering = None;
    }
    let mut failed: Vec<StorePath> = Vec::new();
    let mut made = MadeInputs::new();
    loop {
        if waiting.len() == 1 {
            let mut inputs = target.derivation.input_derivations.keys();
            let last = inputs.find(|input| !made.contains_key(*input) && !failed.contains(*input));
            last.into_iter().for_each(|last| core.waits_only_for(&target.path, last));
        }
        let Some((path, outcome)) = waiting.next().await else { break };
        if outcome.kind != OutcomeKind::Success {
            failed.push(path.clone());
            if !core.settings.keep_going {
                break;
            }
        } else {
            made.insert(path.clone(), outcome);
        }
    }
    if failed.is_empty() {
        return Ok(made);
    }
    let message = format!(
        "cannot build derivation '{}': {} dependencies couldn't be built",
        store_dir.display(&target.path),
        failed.len()
    );
    Err(InputFailure { failure: Failure::new(BuildStatus::DependencyFailed, message), failed })
}

/// Makes the input sources valid, which must be had as they are.
async fn realise_sources(core: &Core, target: &Target) -> Result<(), Failure> {
    let missing: Vec<&StorePath> = target.derivation.input_sources.difference(&target.valid).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let store_dir = core.store_dir();
    let (derivation, source) = (store_dir.display(&target.path), store_dir.display(first));
    if !target.is_basic && core.substituters().await.is_none() {
        let message =
            format!("dependency '{source}' of '{derivation}' does not exist, and substitution is disabled");
        return Err(Failure::misc(message));
    }
    let goals: Vec<_> = missing.iter().map(|path| core.want_path(path, Existing::Stays)).collect();
    let outcomes = join_all(goals.iter().map(|goal| goal.result())).await;
    for (path, outcome) in missing.iter().zip(outcomes) {
        let outcome = outcome.unwrap_or_else(Outcome::lost);
        if outcome.kind == OutcomeKind::Success {
            continue;
        }
        let path = store_dir.display(path);
        return Err(Failure::misc(if target.is_basic {
            format!("some dependencies of '{derivation}' are missing, such as '{path}'")
        } else {
            let why = outcome.result.error_message.to_str_lossy().into_owned();
            format!("dependency '{path}' of '{derivation}' does not exist: {why}")
        }));
    }
    Ok(())
}

/// The closures of the named outputs of the input derivations and of the input sources (D5).
pub(super) async fn input_closure(core: &Core, target: &Target) -> Result<BTreeSet<StorePath>, Failure> {
    let store_dir = core.store_dir();
    let mut inputs = target.derivation.input_sources.clone();
    for (path, wanted) in &target.derivation.input_derivations {
        let input = core.store.read_derivation(path).await?;
        for output in wanted.outputs() {
            let known = input.outputs.get(output).and_then(|output| output.path());
            inputs.insert(known.cloned().ok_or_else(|| {
                Failure::misc(format!(
                    "derivation '{}' requires non-existent output '{output}' from input derivation '{}'",
                    store_dir.display(&target.path),
                    store_dir.display(path)
                ))
            })?);
        }
    }
    Ok(core.closure(&inputs).await?)
}
