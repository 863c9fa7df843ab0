//! Making a list of things valid (R1).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kiln_events::{BuildResult, BuildStatus, exit_status};
use kiln_store_path::{DerivedPath, OutputName, StorePath};
use kiln_substitute::Existing;

use super::answer::{BuildAnswer, BuildMode, BuildRequest, FailedDerivation, TargetResult};
use crate::core::Core;
use crate::engine::Engine;
use crate::error::Failure;
use crate::goal::{Outcome, OutcomeKind, SharedOutcome, repair_goal};

impl Engine {
    /// Makes the targets valid. Never an error: what fails is in the answer.
    ///
    /// Without [`keep_going`](BuildRequest::keep_going), the first target that fails ends the request, and what nobody
    /// else wants is cancelled. Dropping the future cancels it all (S12). When nothing is left of builds, what was cancelled
    /// included, [`Engine::idle`] tells.
    pub async fn build(&self, request: BuildRequest) -> BuildAnswer {
        let (core, _listener) = self.request();
        if core.settings.min_free > 0 {
            // A collection could be faster than the goals. If it cannot be written, they will say so.
            let wanted = request.targets.iter().map(|target| target_path(target).clone()).collect();
            let _ = core.store.add_temp_roots(wanted).await;
        }
        core.with_space(self.build_all(&core, request)).await
    }

    async fn build_all(&self, core: &Arc<Core>, request: BuildRequest) -> BuildAnswer {
        let _remembering = core.failures.remember();
        let _requested = core.profile.build_hook.request();
        if let Some(failure) = self.no_slots_for(core, &request.targets).await {
            return refused(&request, &failure);
        }
        let mut waiting: FuturesUnordered<_> = request
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| {
                let core = Arc::clone(core);
                let mode = request.mode;
                async move { (index, target_outcome(&core, target, mode).await) }
            })
            .collect();
        let mut outcomes: BTreeMap<usize, SharedOutcome> = BTreeMap::new();
        while let Some((index, outcome)) = waiting.next().await {
            let failed = outcome.kind != OutcomeKind::Success;
            outcomes.insert(index, outcome);
            if failed && !request.keep_going {
                break;
            }
        }
        drop(waiting);
        answer(core, request, &outcomes)
    }

    /// Whether builds are needed that could never start (S11).
    async fn no_slots_for(&self, core: &Core, targets: &[DerivedPath]) -> Option<Failure> {
        if core.profile.slots_for_builds > 0 || core.profile.build_hook.has_machines() {
            return None;
        }
        match self.query_missing(targets).await {
            Ok(missing) if !missing.will_build.is_empty() => Some(Failure::misc(format!(
                "{} derivations need to be built, but neither local builds ('--max-jobs') nor remote builds ('--builders') are \
                 enabled",
                missing.will_build.len()
            ))),
            _ => None,
        }
    }
}

/// What must be valid for a target to be made.
fn target_path(target: &DerivedPath) -> &StorePath {
    match target {
        DerivedPath::Opaque(path) => path,
        DerivedPath::Built { derivation, .. } => &derivation.path,
    }
}

async fn target_outcome(core: &Arc<Core>, target: &DerivedPath, mode: BuildMode) -> SharedOutcome {
    match target {
        DerivedPath::Opaque(path) => {
            // The goal's own root ends with it.
            if let Err(error) = core.store.add_temp_roots(vec![path.clone()]).await {
                let result = Failure::from(error).into_result();
                return Arc::new(Outcome::failure(OutcomeKind::Failed, result));
            }
            if mode == BuildMode::Repair {
                return repair_goal(core, path).await;
            }
            let goal = core.want_path(path, Existing::Stays);
            goal.result().await.unwrap_or_else(Outcome::lost)
        }
        DerivedPath::Built { derivation, outputs } if derivation.outputs.is_empty() => {
            let goal = core.want_derivation(&derivation.path, outputs.clone(), mode);
            core.keep(goal.result().await.unwrap_or_else(Outcome::lost)).await
        }
        DerivedPath::Built { .. } => {
            let message = format!(
                "'{}': derivations that are outputs of others (dynamic derivations) are not supported",
                target.print(core.store_dir())
            );
            let failure = Failure::new(BuildStatus::InputRejected, message);
            Arc::new(Outcome::failure(OutcomeKind::Failed, failure.into_result()))
        }
    }
}

fn answer(core: &Core, request: BuildRequest, outcomes: &BTreeMap<usize, SharedOutcome>) -> BuildAnswer {
    let results: Vec<TargetResult> = request
        .targets
        .into_iter()
        .enumerate()
        .map(|(index, target)| {
            let was_cancelled = !outcomes.contains_key(&index);
            let (result, outputs) = match outcomes.get(&index) {
                Some(outcome) => (outcome.result.clone(), wanted(&target, &outcome.outputs)),
                None => {
                    let message = "cancelled, because another target failed";
                    (BuildResult::failure(BuildStatus::MiscFailure, message), BTreeMap::new())
                }
            };
            let origins = outcomes.get(&index).map(|outcome| outcome.origins.clone()).unwrap_or_default();
            TargetResult { target, result, was_cancelled, outputs, origins }
        })
        .collect();
    let failed = results.iter().filter(|result| !result.result.is_success());
    let failures = failures(core, failed.filter_map(|result| derivation_of(&result.target)));
    let statuses = results.iter().map(|result| result.result.status);
    let exit_status = exit_status(statuses.chain(failures.iter().map(|failed| failed.result.status)));
    BuildAnswer { results, failures, exit_status }
}

fn derivation_of(target: &DerivedPath) -> Option<StorePath> {
    match target {
        DerivedPath::Built { derivation, .. } => Some(derivation.path.clone()),
        DerivedPath::Opaque(_) => None,
    }
}

fn wanted(
    target: &DerivedPath,
    outputs: &BTreeMap<OutputName, StorePath>,
) -> BTreeMap<OutputName, StorePath> {
    match target {
        DerivedPath::Built { outputs: wanted, .. } => outputs
            .iter()
            .filter(|(name, _)| wanted.contains(name))
            .map(|(name, path)| (name.clone(), path.clone()))
            .collect(),
        DerivedPath::Opaque(_) => BTreeMap::new(),
    }
}

/// All that failed, roots first.
fn failures(core: &Core, targets: impl Iterator<Item = StorePath>) -> Vec<FailedDerivation> {
    let mut failures: Vec<FailedDerivation> = core
        .failures
        .below(targets)
        .into_iter()
        .map(|(derivation, (goal, needed_by))| FailedDerivation {
            derivation,
            result: goal.result.clone(),
            needed_by: needed_by.into_iter().collect(),
            is_root: goal.because_of.is_empty(),
        })
        .collect();
    failures.sort_by_key(|failed| !failed.is_root);
    failures
}

/// The answer to a request that was not even begun.
fn refused(request: &BuildRequest, failure: &Failure) -> BuildAnswer {
    let result = |target: &DerivedPath| TargetResult {
        target: target.clone(),
        result: failure.clone().into_result(),
        was_cancelled: false,
        outputs: BTreeMap::new(),
        origins: BTreeMap::new(),
    };
    BuildAnswer {
        results: request.targets.iter().map(result).collect(),
        failures: Vec::new(),
        exit_status: 1,
    }
}
