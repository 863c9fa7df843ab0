//! Derivations that must be resolved before they can be built: paths of their inputs follow from content.
//!
//! What such a derivation resolves to, with the paths of its inputs in place, is a derivation of its own, and has a goal of its
//! own. Several may resolve to the same one, which is then built once: what does not change its output, rebuilds nothing
//! above it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_derivation::DerivationKind;
use kiln_events::{BuildResult, BuildStatus};
use kiln_narinfo::Realisation;
use kiln_store_path::{OutputName, OutputsSpec, StorePath};

use super::derivation::{GoalError, Target, printed};
use super::inputs::MadeInputs;
use super::outcome::{Outcome, OutcomeKind};
use crate::core::Core;
use crate::error::Failure;

/// Whether paths must be put into a derivation before it can be built.
pub(super) async fn must_be_resolved(core: &Core, target: &Target) -> Result<bool, Failure> {
    let derivation = &target.derivation;
    if derivation.input_derivations.is_empty() {
        return Ok(false);
    }
    if derivation.kind().is_ok_and(|kind| matches!(kind, DerivationKind::Deferred | DerivationKind::Floating))
    {
        return Ok(true);
    }
    // Only a fixed output has a path although those of its inputs may not be known.
    if derivation.fixed_output().is_some() {
        for path in derivation.input_derivations.keys() {
            let input = core.store.read_derivation(path).await?;
            if input.outputs.values().any(|output| output.path().is_none()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Builds what the derivation resolves to, and records that its outputs are this derivation's, too.
pub(super) async fn realise_resolved(
    core: &Core,
    target: &Target,
    made: &MadeInputs,
) -> Result<Outcome, GoalError> {
    let path_of = |input: &StorePath, output: &OutputName| made.get(input)?.outputs.get(output).cloned();
    let resolved = target.derivation.resolve(core.store_dir(), path_of).map_err(Failure::misc)?;
    let file = resolved.to_file(core.store_dir()).map_err(Failure::misc)?;
    let added = core.store.add_text(&file.path.to_name(), file.text, file.references).await?;
    let _waits = core.waits_for_resolved(&target.path, &added.path);
    let goal = core.want_derivation(&added.path, OutputsSpec::All, target.mode);
    let outcome = core.keep(goal.result().await.unwrap_or_else(Outcome::lost)).await;
    if outcome.kind != OutcomeKind::Success {
        return Err(GoalError::Resolved {
            resolved: added.path.clone(),
            result: Box::new(outcome.result.clone()),
        });
    }
    record_realisations(core, target, &outcome.outputs).await?;
    let status = match outcome.result.status {
        BuildStatus::AlreadyValid => BuildStatus::ResolvesToAlreadyValid,
        status => status,
    };
    let built_outputs = printed(core, &outcome.outputs);
    let result = BuildResult { status, built_outputs, ..outcome.result.clone() };
    Ok(Outcome::success(result, outcome.outputs.clone()))
}

/// Records as which paths the outputs of a derivation whose paths follow from content were made.
pub(super) async fn record_realisations(
    core: &Core,
    target: &Target,
    outputs: &BTreeMap<OutputName, StorePath>,
) -> Result<(), Failure> {
    if target.derivation.outputs.values().all(|output| output.path().is_some()) {
        return Ok(());
    }
    let hash = core.store.hash_modulo(&target.path, Arc::clone(&target.derivation)).await?;
    // What is on record stays so: others may have been built with it.
    for (name, path) in outputs.iter().filter(|(name, path)| target.outputs.get(*name) != Some(*path)) {
        let mut realisation = Realisation::new(hash.realisation_id(name.clone()), path.clone());
        core.sign_realisation(&mut realisation);
        core.store.register_realisation(realisation).await?;
    }
    Ok(())
}
