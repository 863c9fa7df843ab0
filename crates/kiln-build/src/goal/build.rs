//! Building a derivation whose inputs are valid: slot → user → locks → plan → builder → registration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_derivation::{BuildOptions, DerivationKind};
use kiln_events::{Activity, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_fs::{Component, FailPoint, PathLocks, delete_tree, fail_point};
use kiln_sandbox::{BuildUser, Credentials, SandboxError};
use kiln_schedule::JobKind;
use kiln_settings::SandboxPath;
use kiln_store::{LocalStore, blocking, waiting};
use kiln_store_path::{OutputName, StorePath};

use super::derivation::{GoalError, Target, output_paths, printed};
use super::inputs::input_closure;
use super::outcome::Outcome;
use super::remote::{Offered, offer};
use super::round::Round;
use crate::audience::ExpectedWork;
use crate::builtin::BuiltinInput;
use crate::core::Core;
use crate::discovery::Discovering;
use crate::error::Failure;
use crate::execute::{Directories, Workspace};
use crate::figures::BuildPlace;
use crate::plan::{
    BuildPlan, Confined, Facts, FixedNetwork, PlanError, ScratchPaths, is_confined, is_fixed, make_plan,
};
use crate::request::BuildMode;

/// How long to wait for a build user before giving up.
const PATIENCE_FOR_A_USER: Duration = Duration::from_secs(3600);

/// What is known before a build gets its turn.
pub(crate) struct Prepared {
    pub(super) options: BuildOptions,
    pub(crate) confined: Confined,
    /// The network that it gets if its output is fixed.
    pub(crate) network: FixedNetwork,
    /// What the builder may read of the store.
    pub(super) inputs: BTreeSet<StorePath>,
    sandbox_closure: BTreeSet<StorePath>,
    references_graphs: BTreeMap<String, Vec<kiln_derivation::GraphMember>>,
    builtin: Option<BuiltinInput>,
}

/// Builds the derivation, or finds that somebody else has done it meanwhile. One that is still `discovering` could be built from
/// the beginning, and lines up with others of which that is so.
pub(super) async fn build(
    core: &Arc<Core>,
    target: Target,
    expected: ExpectedWork,
    mut discovering: Option<Discovering>,
) -> Result<Outcome, GoalError> {
    let inputs = input_closure(core, &target).await?;
    let options = build_options(core, &target)?;
    if core.profile.build_hook.is_there() {
        // The hook is asked for one after the other, in their order.
        discovering = None;
        core.discovery.settled().await;
    }
    let must_be_local = target.mode != BuildMode::Normal || options.prefer_local_build;
    let mut slot = None;
    if !must_be_local || core.profile.platform.check(&target.derivation, &options).is_err() {
        match offer(core, &target, &options).await? {
            Offered::Accepted(build) => {
                let built = build.run(&target, &inputs, expected);
                return timed(core, &target, BuildPlace::Elsewhere, built).await;
            }
            Offered::Valid(outputs) => {
                return Ok(built(core, outputs, BuildResult::new(BuildStatus::AlreadyValid)));
            }
            Offered::Declined(free) => slot = free,
        }
    }
    let prepared = prepare(core, &target, options, inputs).await?;
    let kind = if must_be_local { JobKind::LocalBuild } else { JobKind::Build };
    if core.profile.slots_for_builds == 0 && kind == JobKind::Build {
        return Err(Failure::misc(nothing_can_run(core)).into());
    }
    loop {
        let slot = match slot.take() {
            Some(slot) => slot,
            None => core.slots.line_up(kind, core.priority(&target.path), discovering.take()).await,
        };
        match take_turn(core, &target, &prepared).await? {
            Turn::NoUser => {
                drop(slot);
                wait_for_build_user(core).await?;
            }
            Turn::Locked => {
                drop(slot);
                wait_for_locks(core, &target).await?;
            }
            Turn::Valid(outputs) => {
                return Ok(built(core, outputs, BuildResult::new(BuildStatus::AlreadyValid)));
            }
            Turn::Taken { user, locks, missing, occupied, directories } => {
                let workspace = Workspace::new(core, slot, user, locks, *directories);
                let number = (1, rounds(core, &target));
                let network = prepared.network.clone();
                let round = Round {
                    core,
                    target: &target,
                    prepared: &prepared,
                    missing,
                    occupied,
                    number,
                    network,
                    log: None,
                };
                return timed(core, &target, BuildPlace::Here, round.run(workspace, expected)).await;
            }
        }
    }
}

/// Follows a build to its end, and takes note of how long it took.
async fn timed(
    core: &Core,
    target: &Target,
    place: BuildPlace,
    build: impl Future<Output = Result<Outcome, GoalError>>,
) -> Result<Outcome, GoalError> {
    let begin = Instant::now();
    let outcome = core.figures.counted(place, build).await?;
    core.durations.record(&target.derivation, begin.elapsed());
    Ok(outcome)
}

/// Why a build can never start (S11).
fn nothing_can_run(core: &Core) -> &'static str {
    if core.profile.build_hook.has_machines() {
        "unable to start any build; remote machines may not have all required system features"
    } else {
        "unable to start any build; either increase '--max-jobs' or enable remote builds"
    }
}

/// How often the builder runs (D13). What is fixed is compared with its hash, and what is checked with what is valid.
fn rounds(core: &Core, target: &Target) -> u64 {
    let is_fixed = target.derivation.kind().is_ok_and(|kind| kind == DerivationKind::Fixed);
    if is_fixed || target.mode != BuildMode::Normal { 1 } else { core.settings.repeat.saturating_add(1) }
}

/// What came of trying to begin a build.
enum Turn {
    /// All build users are in use.
    NoUser,
    /// Somebody else works on an output.
    Locked,
    /// Somebody else has made all outputs meanwhile.
    Valid(BTreeMap<OutputName, StorePath>),
    /// The build can begin: nothing is at the places of outputs that are not valid. To check, all are made.
    Taken {
        user: Option<BuildUser>,
        locks: PathLocks,
        /// The outputs that are wanted of this build.
        missing: BTreeSet<OutputName>,
        /// Outputs that are valid, whether their contents are good or not.
        occupied: BTreeSet<StorePath>,
        directories: Box<Directories>,
    },
}

/// Takes a build user and the locks on the outputs, waiting for neither, looks what is to be done, and makes directories
/// for it (D6, B7). All of it on one thread: to go from one to another costs as much as each of the steps.
async fn take_turn(core: &Arc<Core>, target: &Target, prepared: &Prepared) -> Result<Turn, Failure> {
    let (core, target, confined) = (Arc::clone(core), target.clone(), prepared.confined);
    blocking(move || {
        let user = match &core.build_users {
            None => None,
            Some(users) => match users.try_acquire().map_err(SandboxError::from)? {
                None => return Ok(Turn::NoUser),
                user => user,
            },
        };
        fail_point(FailPoint::BuildUserTaken);
        let (locks, missing, occupied) = match lock_outputs(&core, &target)? {
            Locked::Elsewhere => return Ok(Turn::Locked),
            Locked::Valid(outputs) => return Ok(Turn::Valid(outputs)),
            Locked::Taken { locks, missing, occupied } => (locks, missing, occupied),
        };
        fail_point(FailPoint::TurnTaken);
        let credentials = user.as_ref().map_or(Credentials::Caller, BuildUser::credentials);
        let beside_the_store = needs_directory_beside_the_store(&target, &occupied, confined);
        let directories = Directories::make(&core, &target.path, beside_the_store, &credentials)?;
        Ok(Turn::Taken { user, locks, missing, occupied, directories: Box::new(directories) })
    })
    .await
}

/// What came of trying to lock the outputs of a build.
pub(super) enum Locked {
    /// Somebody else works on one of them.
    Elsewhere,
    /// Somebody else has made all of them meanwhile.
    Valid(BTreeMap<OutputName, StorePath>),
    /// They are ours, and nothing is at the places of those that are not valid.
    Taken {
        locks: PathLocks,
        /// The outputs that are wanted of this build.
        missing: BTreeSet<OutputName>,
        /// Outputs that are valid, whether their contents are good or not.
        occupied: BTreeSet<StorePath>,
    },
}

/// Takes the locks on the outputs, without waiting for them, and looks what is to be done (D6). Blocks.
pub(super) fn lock_outputs(core: &Core, target: &Target) -> Result<Locked, Failure> {
    let store = &core.store;
    let locks = LocalStore::output_locks(&target.path, &target.derivation)?;
    let Some(mut locks) = PathLocks::try_acquire(store.directory(), locks)? else {
        return Ok(Locked::Elsewhere);
    };
    // Whoever waits for a lock file looks whether it is still one.
    locks.discard_on_release(Arc::clone(&core.trash));
    let outputs = output_paths(store, &target.path, &target.derivation)?;
    let paths: Vec<StorePath> = outputs.values().cloned().collect();
    let occupied = store.valid_among_blocking(&paths)?;
    let missing = missing(core, target, &outputs, &occupied)?;
    if missing.is_empty() {
        return Ok(Locked::Valid(outputs));
    }
    for path in paths.iter().filter(|path| !occupied.contains(*path)) {
        delete_tree(store.directory(), &LocalStore::component(path)?)?;
    }
    Ok(Locked::Taken { locks, missing, occupied })
}

/// The outputs to take from a build.
fn missing(
    core: &Core,
    target: &Target,
    outputs: &BTreeMap<OutputName, StorePath>,
    occupied: &BTreeSet<StorePath>,
) -> Result<BTreeSet<OutputName>, Failure> {
    let all = || target.derivation.outputs.keys().cloned().collect();
    if target.mode == BuildMode::Check {
        return Ok(all());
    }
    let mut missing = BTreeSet::new();
    for name in target.derivation.outputs.keys() {
        let Some(path) = outputs.get(name).filter(|path| occupied.contains(*path)) else {
            missing.insert(name.clone());
            continue;
        };
        let repairs = target.mode == BuildMode::Repair;
        if repairs && !core.contents.are_good(&core.store, &core.events, path)? {
            missing.insert(name.clone());
        }
    }
    // Outputs whose paths follow from content may refer to whatever the others are this time.
    let follows_from_content = target.derivation.outputs.values().any(|output| output.path().is_none());
    Ok(if follows_from_content && !missing.is_empty() { all() } else { missing })
}

/// Whether a build needs a directory on the store's file system that only the engine can reach.
pub(super) fn needs_directory_beside_the_store(
    target: &Target,
    occupied: &BTreeSet<StorePath>,
    confined: Confined,
) -> bool {
    confined == Confined::Sandbox
        || !occupied.is_empty()
        || target.derivation.outputs.values().any(|output| output.path().is_none())
}

/// Where a build takes place, and as whom.
pub(crate) struct Place {
    pub(crate) credentials: Credentials,
    /// How many IDs come with them.
    pub(crate) ids: u32,
    /// The build's directory beside the store, if it is sandboxed.
    pub(crate) chroot: PathBuf,
    pub(crate) build_directory: PathBuf,
    /// What the pre-build hook adds to `sandbox-paths`.
    pub(crate) hook_paths: Vec<SandboxPath>,
    /// The network of fixed-output builds.
    pub(crate) network: FixedNetwork,
}

impl Prepared {
    /// The plan of the build at a place.
    pub(crate) fn plan(
        &self,
        core: &Core,
        target: &Target,
        missing: &BTreeSet<OutputName>,
        occupied: &BTreeSet<StorePath>,
        confined: Confined,
        place: &Place,
    ) -> Result<BuildPlan, Failure> {
        let derivation = (&target.path, &*target.derivation);
        let scratch = ScratchPaths::new(core.store_dir(), derivation, occupied, confined)
            .map_err(|error| Failure::new(BuildStatus::InputRejected, error.to_string()))?;
        let names = self.options.impure_environment_variables.iter();
        let impure_values =
            names.filter_map(|name| Some((name.clone(), core.environment.get(name)?.clone()))).collect();
        let cgroup = core.cgroups.as_ref().map(|cgroups| cgroups.of_build(&place.credentials));
        let facts = Facts {
            settings: &core.settings,
            store_dir: core.store_dir(),
            real_dir: core.real_dir(),
            path: &target.path,
            derivation: &target.derivation,
            options: &self.options,
            confined,
            scratch: &scratch,
            network: &place.network,
            missing,
            inputs: &self.inputs,
            sandbox_closure: &self.sandbox_closure,
            references_graphs: &self.references_graphs,
            impure_values: &impure_values,
            credentials: &place.credentials,
            ids: place.ids,
            cgroup: cgroup.as_ref(),
            chroot: &place.chroot,
            build_directory: &place.build_directory,
            hook_paths: &place.hook_paths,
            builtin: self.builtin.as_ref(),
        };
        make_plan(&facts).map_err(no_plan)
    }
}

/// A plan that cannot be made, because of the derivation or of the machine (D9).
fn no_plan(error: PlanError) -> Failure {
    let status = match error {
        PlanError::Builtin(_) => BuildStatus::PermanentFailure,
        PlanError::UidRange { .. } | PlanError::NoSandbox | PlanError::NoDivertedStore => {
            BuildStatus::MiscFailure
        }
        _ => BuildStatus::InputRejected,
    };
    Failure::new(status, error.to_string())
}

fn rejected(error: impl std::fmt::Display) -> Failure {
    Failure::new(BuildStatus::InputRejected, error.to_string())
}

/// What the derivation says of its build, besides what the builder sees.
pub(crate) fn build_options(core: &Core, target: &Target) -> Result<BuildOptions, Failure> {
    let options = BuildOptions::of(&target.derivation).map_err(rejected)?;
    for warning in &options.warnings {
        let derivation = core.store_dir().display(&target.path);
        core.events.warn(format!("derivation '{derivation}': {warning}"));
    }
    Ok(options)
}

/// Everything that can be found out without holding anything.
pub(crate) async fn prepare(
    core: &Core,
    target: &Target,
    options: BuildOptions,
    inputs: BTreeSet<StorePath>,
) -> Result<Prepared, Failure> {
    let path = core.store_dir().print(&target.path);
    core.profile.platform.check(&target.derivation, &options).map_err(|mut error| {
        error.derivation.clone_from(&path);
        rejected(error)
    })?;
    let confined = is_confined(&core.settings, &path, &target.derivation, &options, core.is_diverted())
        .map_err(no_plan)?;
    let network = fixed_network(core, target, confined).await?;
    let references_graphs =
        super::references_graphs::references_graphs(core, target, &options, &inputs).await?;
    let sandbox_closure = sandbox_closure(core).await?;
    let builtin = if target.derivation.is_builtin() { Some(builtin_input(core, target).await) } else { None };
    Ok(Prepared { options, confined, network, inputs, sandbox_closure, references_graphs, builtin })
}

/// The network of a build, if it is one of a fixed output in a sandbox (X2).
async fn fixed_network(core: &Core, target: &Target, confined: Confined) -> Result<FixedNetwork, Failure> {
    if confined == Confined::Nothing || !is_fixed(&target.derivation) {
        return Ok(FixedNetwork::Host(None));
    }
    let settings = Arc::clone(&core.settings);
    let search_path = core.environment.get(&b"PATH"[..]).cloned().unwrap_or_default();
    let chosen = blocking(move || FixedNetwork::choose(&settings, &search_path)).await;
    chosen.map_err(|reason| no_own_network(&core.store_dir().print(&target.path), &reason))
}

/// A fixed output that was to be built with a network of its own, and can't be.
pub(super) fn no_own_network(derivation: &str, reason: &str) -> Failure {
    Failure::misc(format!(
        "cannot build '{derivation}' with a network of its own, as 'fod-network = isolated' demands: {reason}"
    ))
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
pub(super) async fn wait_for_locks(core: &Core, target: &Target) -> Result<(), Failure> {
    let names = LocalStore::output_locks(&target.path, &target.derivation)?;
    let in_store = |name: &Component| format!("'{}/{}'", core.store_dir(), name.as_path().display());
    let paths: Vec<String> = names.iter().map(in_store).collect();
    let _waiting = core.events.start_with_text(
        ActivityId::NONE,
        Verbosity::Warn,
        Activity::BuildWaiting { resolved: None },
        format!("waiting for lock on {}", paths.join(", ")),
    );
    let store = core.store.clone();
    waiting(move || {
        let mut locks = PathLocks::acquire(store.directory(), names, &mut |_| {})?;
        locks.delete_on_release(true);
        Ok(())
    })
    .await
}

/// The result for outputs that are all valid now.
pub(super) fn built(core: &Core, outputs: BTreeMap<OutputName, StorePath>, result: BuildResult) -> Outcome {
    let result = BuildResult { built_outputs: printed(core, &outputs), ..result };
    Outcome::success(result, outputs)
}
