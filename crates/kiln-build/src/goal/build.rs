//! Building a derivation whose inputs are valid: slot → user → locks → plan → builder → registration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_derivation::BuildOptions;
use kiln_events::{Activity, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_sandbox::{BuildUser, Credentials};
use kiln_schedule::{JobKind, Priority};
use kiln_store::{blocking, waiting};
use kiln_store_path::{OutputName, StorePath};

use super::derivation::{GoalError, Target, printed};
use super::inputs::input_closure;
use super::outcome::Outcome;
use super::round::Round;
use crate::counters::ExpectedBuild;
use crate::engine::Core;
use crate::error::Failure;
use crate::execute::Workspace;
use crate::leftovers::delete_leftovers;
use crate::plan::{BuildPlan, Confined, Facts, PlanError, is_confined, make_plan};

/// How long to wait for a build user before giving up.
const PATIENCE_FOR_A_USER: Duration = Duration::from_secs(3600);

/// What is known before a build gets its turn.
pub(crate) struct Prepared {
    pub(super) options: BuildOptions,
    pub(crate) confined: Confined,
    /// What the builder may read of the store.
    pub(super) inputs: BTreeSet<StorePath>,
    sandbox_closure: BTreeSet<StorePath>,
    references_graphs: BTreeMap<String, Vec<kiln_derivation::GraphMember>>,
}

/// Builds the derivation, or finds that somebody else has done it meanwhile.
pub(super) async fn build(
    core: &Arc<Core>,
    target: Target,
    expected: ExpectedBuild,
) -> Result<Outcome, GoalError> {
    let inputs = input_closure(core, &target).await?;
    let prepared = prepare(core, &target, inputs).await?;
    let kind = if prepared.options.prefer_local_build { JobKind::LocalBuild } else { JobKind::Build };
    if core.slots_for_builds == 0 && kind == JobKind::Build {
        let message = "unable to start any build; either increase '--max-jobs' or enable remote builds";
        return Err(Failure::misc(message).into());
    }
    loop {
        let priority = Priority::plain(target.path.name(), target.path.base_name());
        let slot = core.slots.acquire(kind, priority).await;
        let user = acquire_build_user(core).await?;
        let outputs: BTreeSet<StorePath> = target.outputs.values().cloned().collect();
        let Some(locks) = core.store.try_lock_paths(outputs.iter().cloned().collect()).await? else {
            drop((slot, user));
            wait_for_locks(core, &outputs).await?;
            if core.valid(target.outputs.values()).await?.len() == target.outputs.len() {
                return Ok(built(core, &target, BuildResult::new(BuildStatus::AlreadyValid)));
            }
            continue;
        };
        let workspace = Workspace::new(core, slot, user, locks);
        let valid = core.valid(&outputs).await?;
        if valid.len() == outputs.len() {
            return Ok(built(core, &target, BuildResult::new(BuildStatus::AlreadyValid)));
        }
        delete_leftovers(&core.store, outputs.difference(&valid).cloned().collect()).await?;
        let missing = target.outputs.iter().filter(|(_, path)| !valid.contains(*path));
        let missing = missing.map(|(name, _)| name.clone()).collect();
        let round = Round { core, target: &target, prepared: &prepared, missing };
        return round.run(workspace, expected).await;
    }
}

/// Where a build takes place, and as whom.
pub(crate) struct Place {
    pub(crate) credentials: Credentials,
    /// The build's directory beside the store, if it is sandboxed.
    pub(crate) chroot: PathBuf,
    pub(crate) build_directory: PathBuf,
}

impl Prepared {
    /// The plan of the build at a place.
    pub(crate) fn plan(
        &self,
        core: &Core,
        target: &Target,
        missing: &BTreeSet<OutputName>,
        confined: Confined,
        place: &Place,
    ) -> Result<BuildPlan, Failure> {
        let names = self.options.impure_environment_variables.iter();
        let impure_values =
            names.filter_map(|name| Some((name.clone(), core.environment.get(name)?.clone()))).collect();
        let facts = Facts {
            settings: &core.settings,
            store_dir: core.store_dir(),
            real_dir: core.real_dir(),
            path: &target.path,
            derivation: &target.derivation,
            options: &self.options,
            confined,
            output_paths: &target.outputs,
            missing,
            inputs: &self.inputs,
            sandbox_closure: &self.sandbox_closure,
            references_graphs: &self.references_graphs,
            impure_values: &impure_values,
            credentials: &place.credentials,
            chroot: &place.chroot,
            build_directory: &place.build_directory,
        };
        make_plan(&facts).map_err(|error| {
            let status = match error {
                PlanError::Builtin(_) => BuildStatus::PermanentFailure,
                _ => BuildStatus::InputRejected,
            };
            Failure::new(status, error.to_string())
        })
    }
}

/// Everything that can be found out without holding anything.
pub(crate) async fn prepare(
    core: &Core,
    target: &Target,
    inputs: BTreeSet<StorePath>,
) -> Result<Prepared, Failure> {
    let rejected =
        |error: &dyn std::fmt::Display| Failure::new(BuildStatus::InputRejected, error.to_string());
    let options = BuildOptions::of(&target.derivation).map_err(|error| rejected(&error))?;
    for warning in &options.warnings {
        let derivation = core.store_dir().display(&target.path);
        core.events.warn(format!("derivation '{derivation}': {warning}"));
    }
    let path = core.store_dir().print(&target.path);
    core.platform.check(&target.derivation, &options).map_err(|mut error| {
        error.derivation.clone_from(&path);
        rejected(&error)
    })?;
    let confined = is_confined(&core.settings, &path, &target.derivation, &options, core.is_diverted())
        .map_err(|error| rejected(&error))?;
    let references_graphs =
        super::references_graphs::references_graphs(core, target, &options, &inputs).await?;
    let sandbox_closure = sandbox_closure(core).await?;
    Ok(Prepared { options, confined, inputs, sandbox_closure, references_graphs })
}

/// The closures of the store paths among `sandbox-paths` (X6).
async fn sandbox_closure(core: &Core) -> Result<BTreeSet<StorePath>, Failure> {
    let sources = core.settings.sandbox_paths.iter();
    let roots: BTreeSet<StorePath> =
        sources.filter_map(|path| core.store_dir().split(&path.source).ok()).map(|(path, _)| path).collect();
    if roots.is_empty() {
        return Ok(roots);
    }
    let valid = core.valid(&roots).await?;
    match roots.difference(&valid).next() {
        Some(path) => Err(Failure::misc(format!(
            "while processing 'sandbox-paths': path '{}' is not valid",
            core.store_dir().display(path)
        ))),
        None => Ok(core.closure(&roots).await?),
    }
}

/// A build user, if builds have users of their own (B7). Waits while all are in use.
async fn acquire_build_user(core: &Core) -> Result<Option<BuildUser>, Failure> {
    let Some(users) = core.build_users.clone() else { return Ok(None) };
    let users_again = users.clone();
    let free = blocking(move || users.try_acquire()).await.map_err(kiln_sandbox::SandboxError::from)?;
    if free.is_some() {
        return Ok(free);
    }
    let _waiting = core.events.start_with_text(
        ActivityId::NONE,
        Verbosity::Warn,
        Activity::BuildWaiting { resolved: None },
        "waiting for a free build user ID",
    );
    let user = waiting(move || users_again.acquire(PATIENCE_FOR_A_USER)).await;
    Ok(Some(user.map_err(kiln_sandbox::SandboxError::from)?))
}

/// Waits until nobody else holds the locks (S6), on a thread, without holding anything.
async fn wait_for_locks(core: &Core, outputs: &BTreeSet<StorePath>) -> Result<(), Failure> {
    let paths: Vec<String> =
        outputs.iter().map(|path| format!("'{}'", core.store_dir().display(path))).collect();
    let _waiting = core.events.start_with_text(
        ActivityId::NONE,
        Verbosity::Warn,
        Activity::BuildWaiting { resolved: None },
        format!("waiting for lock on {}", paths.join(", ")),
    );
    let mut locks = core.store.lock_paths(outputs.iter().cloned().collect(), |_| {}).await?;
    locks.delete_on_release(true);
    Ok(())
}

/// The result for outputs that are all valid now.
pub(super) fn built(core: &Core, target: &Target, result: BuildResult) -> Outcome {
    let result = BuildResult { built_outputs: printed(core, &target.outputs), ..result };
    Outcome::success(result, target.outputs.clone())
}
