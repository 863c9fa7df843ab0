//! Building a derivation whose inputs are valid: slot → user → locks → plan → builder → registration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_derivation::{BuildOptions, DerivationKind};
use kiln_events::{Activity, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_fs::{PathLocks, delete_tree};
use kiln_sandbox::{BuildUser, Credentials, SandboxError};
use kiln_schedule::{JobKind, Priority};
use kiln_store::{LocalStore, blocking, waiting};
use kiln_store_path::{OutputName, StorePath};

use super::derivation::{GoalError, Target, printed};
use super::inputs::input_closure;
use super::outcome::Outcome;
use super::round::Round;
use crate::builtin::BuiltinInput;
use crate::counters::ExpectedBuild;
use crate::engine::Core;
use crate::error::Failure;
use crate::execute::{Directories, Workspace};
use crate::plan::{BuildPlan, Confined, Facts, PlanError, is_confined, make_plan};
use crate::request::BuildMode;

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
    builtin: Option<BuiltinInput>,
}

/// Builds the derivation, or finds that somebody else has done it meanwhile.
pub(super) async fn build(
    core: &Arc<Core>,
    target: Target,
    expected: ExpectedBuild,
) -> Result<Outcome, GoalError> {
    let inputs = input_closure(core, &target).await?;
    let prepared = prepare(core, &target, inputs).await?;
    let is_check = target.mode == BuildMode::Check;
    let must_be_local = is_check || prepared.options.prefer_local_build;
    let kind = if must_be_local { JobKind::LocalBuild } else { JobKind::Build };
    if core.slots_for_builds == 0 && kind == JobKind::Build {
        let message = "unable to start any build; either increase '--max-jobs' or enable remote builds";
        return Err(Failure::misc(message).into());
    }
    loop {
        let priority = Priority::plain(target.path.name(), target.path.base_name());
        let slot = core.slots.acquire(kind, priority).await;
        let outputs: BTreeSet<StorePath> = target.outputs.values().cloned().collect();
        match take_turn(core, &target, &prepared).await? {
            Turn::NoUser => {
                drop(slot);
                wait_for_build_user(core).await?;
            }
            Turn::Locked => {
                drop(slot);
                wait_for_locks(core, &outputs).await?;
                if !is_check && core.valid(&outputs).await?.len() == outputs.len() {
                    return Ok(built(core, &target, BuildResult::new(BuildStatus::AlreadyValid)));
                }
            }
            Turn::Valid => return Ok(built(core, &target, BuildResult::new(BuildStatus::AlreadyValid))),
            Turn::Taken { user, locks, missing, directories } => {
                let workspace = Workspace::new(core, slot, user, locks, *directories);
                let missing = target.outputs.iter().filter(|(_, path)| missing.contains(*path));
                let missing = missing.map(|(name, _)| name.clone()).collect();
                let number = (1, rounds(core, &target));
                let round = Round { core, target: &target, prepared: &prepared, missing, number, log: None };
                return round.run(workspace, expected).await;
            }
        }
    }
}

/// How often the builder runs (D13). What is fixed is compared with its hash, and what is checked with what is valid.
fn rounds(core: &Core, target: &Target) -> u64 {
    let is_fixed = target.derivation.kind().is_ok_and(|kind| kind == DerivationKind::Fixed);
    if is_fixed || target.mode == BuildMode::Check { 1 } else { core.settings.repeat.saturating_add(1) }
}

/// What came of trying to begin a build.
enum Turn {
    /// All build users are in use.
    NoUser,
    /// Somebody else works on an output.
    Locked,
    /// Somebody else has made all outputs meanwhile.
    Valid,
    /// The build can begin: nothing is at the places of outputs that are not valid. To check, all are made.
    Taken {
        user: Option<BuildUser>,
        locks: PathLocks,
        missing: BTreeSet<StorePath>,
        directories: Box<Directories>,
    },
}

/// Takes a build user and the locks on the outputs, waiting for neither, looks what is to be done, and makes directories
/// for it (D6, B7). All of it on one thread: to go from one to another costs as much as each of the steps.
async fn take_turn(core: &Arc<Core>, target: &Target, prepared: &Prepared) -> Result<Turn, Failure> {
    let (core, derivation) = (Arc::clone(core), target.path.clone());
    let outputs: BTreeSet<StorePath> = target.outputs.values().cloned().collect();
    let (is_check, confined) = (target.mode == BuildMode::Check, prepared.confined);
    blocking(move || {
        let store = &core.store;
        let user = match &core.build_users {
            None => None,
            Some(users) => match users.try_acquire().map_err(SandboxError::from)? {
                None => return Ok(Turn::NoUser),
                user => user,
            },
        };
        let names = outputs.iter().map(LocalStore::component).collect::<Result<Vec<_>, _>>()?;
        let Some(mut locks) = PathLocks::try_acquire(store.directory(), names)? else {
            return Ok(Turn::Locked);
        };
        // Whoever waits for a lock file looks whether it is still one.
        locks.discard_on_release(Arc::clone(&core.trash));
        let all: Vec<StorePath> = outputs.iter().cloned().collect();
        let valid = store.valid_among_blocking(&all)?;
        let mut missing: BTreeSet<StorePath> = outputs.difference(&valid).cloned().collect();
        for path in &missing {
            delete_tree(store.directory(), &LocalStore::component(path)?)?;
        }
        if is_check {
            missing = outputs;
        } else if missing.is_empty() {
            return Ok(Turn::Valid);
        }
        let credentials = user.as_ref().map_or(Credentials::Caller, BuildUser::credentials);
        let directories = Directories::make(&core, &derivation, confined == Confined::Sandbox, &credentials)?;
        Ok(Turn::Taken { user, locks, missing, directories: Box::new(directories) })
    })
    .await
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
            builtin: self.builtin.as_ref(),
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
    let builtin = if target.derivation.is_builtin() { Some(builtin_input(core, target).await) } else { None };
    Ok(Prepared { options, confined, inputs, sandbox_closure, references_graphs, builtin })
}

/// What a builtin is given.
async fn builtin_input(core: &Core, target: &Target) -> BuiltinInput {
    let (settings, derivation) = (Arc::clone(&core.settings), Arc::clone(&target.derivation));
    let environment = core.environment.clone();
    blocking(move || BuiltinInput::gather(&settings, &environment, &derivation)).await
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

/// Waits until a build user is free (B7), on a thread, without holding anything.
async fn wait_for_build_user(core: &Core) -> Result<(), Failure> {
    let Some(users) = core.build_users.clone() else { return Ok(()) };
    let _waiting = core.events.start_with_text(
        ActivityId::NONE,
        Verbosity::Warn,
        Activity::BuildWaiting { resolved: None },
        "waiting for a free build user ID",
    );
    waiting(move || users.acquire(PATIENCE_FOR_A_USER).map(drop)).await.map_err(SandboxError::from)?;
    Ok(())
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
