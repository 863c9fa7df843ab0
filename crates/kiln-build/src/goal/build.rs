//! Building a derivation whose inputs are valid: slot → user → locks → plan → builder → registration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kiln_derivation::{BuildOptions, DerivationKind};
use kiln_events::{Activity, ActivityGuard, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_sandbox::{BuildUser, Credentials, ExitStatus};
use kiln_schedule::{JobKind, Priority};
use kiln_store::{blocking, waiting};
use kiln_store_path::{OutputName, StorePath};

use super::derivation::{GoalError, Target, printed};
use super::inputs::input_closure;
use super::outcome::Outcome;
use crate::counters::ExpectedBuild;
use crate::engine::Core;
use crate::error::Failure;
use crate::execute::{Ending, Execution, SuperviseError, Workspace, builder_failure};
use crate::leftovers::delete_leftovers;
use crate::log::BuilderLog;
use crate::plan::{BuildPlan, Confined, Facts, PlanError, is_confined, make_plan};
use crate::register::{RegisterError, Registration, discard, register};

/// How long to wait for a build user before giving up.
const PATIENCE_FOR_A_USER: Duration = Duration::from_secs(3600);

/// What is known before a build gets its turn.
pub(crate) struct Prepared {
    options: BuildOptions,
    confined: Confined,
    /// What the builder may read of the store.
    inputs: BTreeSet<StorePath>,
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
            wait_for_locks(core, &target, &outputs).await?;
            if core.valid(target.outputs.values()).await?.len() == target.outputs.len() {
                return Ok(built(core, &target, BuildResult::new(BuildStatus::AlreadyValid)));
            }
            continue;
        };
        let mut workspace = Workspace::new(core, slot, user, locks);
        let valid = core.valid(&outputs).await?;
        if valid.len() == outputs.len() {
            workspace.outputs_are_valid();
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
            confined: &self.confined,
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
    core.platform.check(&target.derivation, &options).map_err(|error| rejected(&error))?;
    let confined = is_confined(&core.settings, &target.derivation, &options, core.is_diverted())
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
async fn wait_for_locks(core: &Core, target: &Target, outputs: &BTreeSet<StorePath>) -> Result<(), Failure> {
    let paths: Vec<String> =
        outputs.iter().map(|path| format!("'{}'", core.store_dir().display(path))).collect();
    let _waiting = core.events.start_with_text(
        ActivityId::NONE,
        Verbosity::Warn,
        Activity::BuildWaiting { resolved: None },
        format!("waiting for lock on {}", paths.join(", ")),
    );
    let mut locks = core.store.lock_paths(outputs.iter().cloned().collect(), |_| {}).await?;
    if core.valid(target.outputs.values()).await?.len() == target.outputs.len() {
        locks.delete_on_release(true);
    }
    Ok(())
}

/// The result for outputs that are all valid now.
fn built(core: &Core, target: &Target, result: BuildResult) -> Outcome {
    let result = BuildResult { built_outputs: printed(core, &target.outputs), ..result };
    Outcome::success(result, target.outputs.clone())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// One run of the builder.
struct Round<'a> {
    core: &'a Arc<Core>,
    target: &'a Target,
    prepared: &'a Prepared,
    missing: BTreeSet<OutputName>,
}

impl Round<'_> {
    async fn run(self, mut workspace: Workspace, mut expected: ExpectedBuild) -> Result<Outcome, GoalError> {
        let core = self.core;
        expected.start();
        let plan = self.plan(&mut workspace).await?;
        let activity = self.activity();
        let mut result =
            BuildResult { times_built: 1, start_time: now(), ..BuildResult::new(BuildStatus::Built) };
        let ended = self.execute(&plan, &mut workspace, activity, &mut result).await;
        let ended = match ended {
            Ok(()) => self.register(&plan, &mut workspace).await,
            failed => failed,
        };
        result.stop_time = now();
        expected.end(ended.is_ok());
        match ended {
            Ok(()) => Ok(built(core, self.target, result)),
            Err(failure) => {
                if plan.launch.sandbox().is_none() {
                    discard(plan.outputs).await?;
                }
                if core.settings.keep_failed
                    && let Some(kept) = workspace.keep_build_directory()?
                {
                    let note = format!("note: keeping build directory '{}'", kept.display());
                    core.events.message(Verbosity::Notice, note);
                }
                result.status = failure.status;
                result.error_message = failure.message;
                result.log_tail = failure.log_tail;
                Err(GoalError::Built(Box::new(result)))
            }
        }
    }

    fn activity(&self) -> ActivityGuard {
        let derivation = self.core.store_dir().print(&self.target.path);
        self.core.events.start(
            ActivityId::NONE,
            Verbosity::Info,
            Activity::Build { drv: derivation.into(), machine: None },
        )
    }

    /// Makes the build's directories, and the plan of what happens in them.
    async fn plan(&self, workspace: &mut Workspace) -> Result<BuildPlan, Failure> {
        let (core, target) = (self.core, self.target);
        let sandboxed = self.prepared.confined == Confined::Sandbox;
        let (chroot, build_directory) =
            workspace.make_directories(sandboxed, core.build_dir(), &target.path).await?;
        // Without a sandbox nothing of the plan is in there.
        let chroot = chroot.unwrap_or_default();
        let place = Place { credentials: workspace.credentials(), chroot, build_directory };
        self.prepared.plan(core, target, &self.missing, &place)
    }

    /// Runs the builder, and judges its end.
    async fn execute(
        &self,
        plan: &BuildPlan,
        workspace: &mut Workspace,
        activity: ActivityGuard,
        result: &mut BuildResult,
    ) -> Result<(), Failure> {
        let core = self.core;
        let mut log =
            BuilderLog::new(&core.settings, activity, core.store.log_path(&self.target.path, false));
        let execution = workspace.run(&plan.launch, plan.limits, |bytes| log.write(bytes)).await;
        let log = log.finish().await;
        let Execution { exit, isolation, exceeded } = execution.map_err(|error| match error {
            SuperviseError::Setup(error) => core.setup_failure(&plan.derivation, &error),
            error => Failure::misc(error),
        })?;
        result.cpu_user = u64::try_from(exit.user.as_micros()).ok();
        result.cpu_system = u64::try_from(exit.system.as_micros()).ok();
        result.isolation = isolation.as_ref().map(ToString::to_string);
        if let Some(isolation) = &result.isolation {
            core.events.message(Verbosity::Talkative, format!("'{}': {isolation}", plan.derivation));
        }
        let directory = workspace.build_directory();
        let disk_is_full = exit.status != ExitStatus::Code(0) && core.is_low_on_disk_space(directory).await;
        let kind = self.target.derivation.kind();
        let failure = builder_failure(Ending {
            derivation: &plan.derivation,
            status: exit.status,
            exceeded,
            is_fixed: kind.is_ok_and(|kind| kind == DerivationKind::Fixed),
            disk_is_full,
            tail: log.tail,
            log_was_shown: false,
        });
        failure.map_or(Ok(()), Err)
    }

    /// Makes the outputs valid.
    async fn register(&self, plan: &BuildPlan, workspace: &mut Workspace) -> Result<(), Failure> {
        let shares_network = plan
            .launch
            .sandbox()
            .is_some_and(|sandbox| matches!(sandbox.network, kiln_sandbox::Network::Host));
        let copy_to =
            shares_network.then(|| self.core.real_dir().join(format!("{}.chroot", self.target.path)));
        let registration = Registration {
            path: &self.target.path,
            derivation: &self.target.derivation,
            options: &self.prepared.options,
            output_paths: &self.target.outputs,
            outputs: plan.outputs.clone(),
            inputs: &self.prepared.inputs,
            builder: workspace.builder_uid(),
            copy_to,
        };
        match register(self.core, registration).await {
            Ok(()) => {
                workspace.outputs_are_valid();
                Ok(())
            }
            Err(RegisterError::Refused(status, message)) => Err(Failure::new(status, message)),
            Err(RegisterError::Failed(failure)) => Err(failure),
        }
    }
}
