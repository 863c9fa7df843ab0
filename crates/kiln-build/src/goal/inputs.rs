//! Making a derivation's inputs valid, and knowing what its builder may read of them.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kiln_events::BuildStatus;
use kiln_store_path::{OutputsSpec, StorePath};
use std::sync::Arc;

use super::derivation::Target;
use super::outcome::{Outcome, OutcomeKind};
use crate::engine::Core;
use crate::error::Failure;
use crate::request::BuildMode;

/// Inputs that could not be had.
pub(super) struct InputFailure {
    pub(super) failure: Failure,
    /// The paths of those that failed.
    pub(super) failed: Vec<StorePath>,
}

impl From<Failure> for InputFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, failed: Vec::new() }
    }
}

/// Makes all inputs valid (D4). Unless the engine keeps going, the first that fails ends the wait, and what nobody else
/// wants of the others is given up.
pub(super) async fn realise_inputs(core: &Arc<Core>, target: &Target) -> Result<(), InputFailure> {
    let store_dir = core.store_dir();
    if let Some(missing) = target.derivation.input_sources.difference(&target.valid).next() {
        let derivation = store_dir.display(&target.path);
        let message = if target.is_basic {
            format!(
                "some dependencies of '{derivation}' are missing, such as '{}'",
                store_dir.display(missing)
            )
        } else {
            let missing = store_dir.display(missing);
            format!("dependency '{missing}' of '{derivation}' does not exist, and substitution is disabled")
        };
        return Err(Failure::new(BuildStatus::MiscFailure, message).into());
    }
    let mut waiting: FuturesUnordered<_> = target
        .derivation
        .input_derivations
        .iter()
        .map(|(path, outputs)| {
            let goal =
                core.want_derivation(path, OutputsSpec::Names(outputs.outputs().clone()), BuildMode::Normal);
            async move { (path, goal.result().await.unwrap_or_else(Outcome::lost)) }
        })
        .collect();
    let mut failed = Vec::new();
    while let Some((path, outcome)) = waiting.next().await {
        if outcome.kind != OutcomeKind::Success {
            failed.push(path.clone());
            if !core.settings.keep_going {
                break;
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let message = format!(
        "cannot build derivation '{}': {} dependencies couldn't be built",
        store_dir.display(&target.path),
        failed.len()
    );
    Err(InputFailure { failure: Failure::new(BuildStatus::DependencyFailed, message), failed })
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
