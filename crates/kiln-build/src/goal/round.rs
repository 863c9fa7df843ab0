//! One run of a builder, from its plan to its registered outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_derivation::DerivationKind;
use kiln_events::{Activity, ActivityGuard, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_fs::{FailPoint, fail_point};
use kiln_sandbox::{ExitStatus, Network, SetupError, SetupStage};
use kiln_settings::FodNetwork;
use kiln_store::LocalStore;
use kiln_store_path::{OutputName, StorePath};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::build::{Place, Prepared, built, needs_directory_beside_the_store, no_own_network};
use super::derivation::{GoalError, Target};
use super::outcome::Outcome;
use super::resolved::record_realisations;
use crate::audience::ExpectedWork;
use crate::core::Core;
use crate::error::Failure;
use crate::execute::{Ending, Execution, SuperviseError, Workspace, builder_failure};
use crate::hooks::{post_build_hook, pre_build_hook};
use crate::leftovers::delete_leftovers;
use crate::log::BuilderLog;
use crate::plan::{BuildPlan, Confined, FixedNetwork, PlannedOutput};
use crate::register::{EarlierRound, Registration, check, collect_outputs, register};
use crate::request::BuildMode;

/// Where a builder finds no home. What a builder writes there without a sandbox, the next one would find.
const HOME: &str = "/homeless-shelter";

/// What to do about a machine that refuses a sandbox.
const REFUSED: &str = "\nthis machine refuses what a sandbox needs: allow user namespaces, or accept builds without a sandbox \
    ('sandbox-fallback = true' where it is refused, 'sandbox = false' everywhere)";

/// The builder's runs: one, or several whose outputs are compared (D13).
pub(super) struct Round<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) target: &'a Target,
    pub(super) prepared: &'a Prepared,
    pub(super) missing: BTreeSet<OutputName>,
    /// Outputs that are valid, whether their contents are good or not.
    pub(super) occupied: BTreeSet<StorePath>,
    /// Which run this is, and of how many.
    pub(super) number: (u64, u64),
    /// The network, if the output is fixed.
    pub(super) network: FixedNetwork,
    /// The log of the builder that ran last, while it is being stored.
    pub(super) log: Option<JoinHandle<()>>,
}

/// Why a builder did not end well.
enum Stopped {
    /// It never began: the machine refuses what its world needs.
    Refused(SetupError),
    /// It never began: the network that it was to have for itself can't be connected.
    Unconnected(SetupError),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Round<'_> {
    pub(super) async fn run(
        mut self,
        mut workspace: Workspace,
        mut expected: ExpectedWork,
    ) -> Result<Outcome, GoalError> {
        expected.start();
        let mut result =
            BuildResult { times_built: 1, start_time: now(), ..BuildResult::new(BuildStatus::Built) };
        let mut made = self.make_outputs(&mut workspace, &mut result).await;
        self.log_is_stored().await;
        // The slot and the user are for builders.
        match &made {
            Err(_) => workspace.close().await,
            Ok(outputs) => {
                workspace.hand_over(self.core.ready_after(&self.target.path));
                outputs.values().for_each(|path| self.core.contents.made(path));
                if let Err(failure) = post_build_hook(self.core, &self.target.path, outputs.values()).await {
                    made = Err(failure);
                }
            }
        }
        result.stop_time = now();
        expected.end(made.is_ok());
        match made {
            Ok(outputs) => Ok(built(self.core, outputs, result)),
            Err(failure) => {
                result.status = failure.status;
                result.error_message = failure.message;
                result.log_tail = failure.log_tail;
                Err(GoalError::Built(Box::new(result)))
            }
        }
    }

    /// Runs the builder as often as is wanted, and makes valid what it made. Returns the paths of all outputs.
    async fn make_outputs(
        &mut self,
        workspace: &mut Workspace,
        result: &mut BuildResult,
    ) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
        let core = self.core;
        let mut confined = self.prepared.confined;
        let mut first: Option<EarlierRound> = None;
        loop {
            let (number, total) = self.number;
            result.times_built = number;
            result.start_time = now();
            let plan = self.run_builder(workspace, result, &mut confined).await?;
            let registration = self.registration(&plan, workspace);
            if self.target.mode == BuildMode::Check {
                check(core, registration, workspace).await?;
                return Ok(self.target.outputs.clone());
            }
            let mut collected = collect_outputs(core, &registration).await?;
            let difference = match &first {
                Some(first) => first.compare(core, registration.path, &mut collected, workspace).await?,
                None => None,
            };
            if let Some(difference) = difference {
                if core.settings.enforce_determinism {
                    if core.keeps_what_differs() {
                        workspace.keep_earlier();
                    }
                    return Err(Failure::new(BuildStatus::NotDeterministic, difference));
                }
                core.events.warn(difference);
                result.is_non_deterministic = true;
            } else if number < total {
                if first.is_none() {
                    first = Some(EarlierRound::keep(core, collected, workspace).await?);
                }
                self.number.0 += 1;
                self.begin_anew(workspace, confined).await?;
                continue;
            }
            workspace.discard_earlier().await?;
            let made = register(core, registration, collected, workspace).await?;
            record_realisations(core, self.target, &made).await?;
            fail_point(FailPoint::RealisationsRecorded);
            // Those that were valid and that nothing was wanted of.
            let mut outputs = self.target.outputs.clone();
            outputs.extend(made);
            return Ok(outputs);
        }
    }

    /// Runs the builder once. Where the machine refuses a sandbox or a network, and the user accepts that, it runs without one
    /// (X2), from then on.
    async fn run_builder(
        &mut self,
        workspace: &mut Workspace,
        result: &mut BuildResult,
        confined: &mut Confined,
    ) -> Result<BuildPlan, Failure> {
        loop {
            let plan = self.plan(workspace, *confined).await?;
            self.clear_scratch_paths(&plan).await?;
            match self.execute(&plan, workspace, result).await {
                Ok(()) => return Ok(plan),
                Err(Stopped::Failed(failure)) => return Err(failure),
                Err(Stopped::Refused(refusal)) => {
                    *confined = self.without_sandbox(&plan, &refusal, *confined)?
                }
                Err(Stopped::Unconnected(error)) => self.network = self.without_own_network(&plan, &error)?,
            }
            self.begin_anew(workspace, *confined).await?;
        }
    }

    /// Whether the builder may go without the sandbox that the machine refuses.
    fn without_sandbox(
        &self,
        plan: &BuildPlan,
        refusal: &SetupError,
        confined: Confined,
    ) -> Result<Confined, Failure> {
        let core = self.core;
        if confined == Confined::Nothing || !core.settings.sandbox_fallback || core.is_diverted() {
            return Err(setup_failure(&plan.derivation, refusal, REFUSED));
        }
        core.events.warn(format!("building '{}' without a sandbox, since {refusal}", plan.derivation));
        Ok(Confined::Nothing)
    }

    /// Whether the builder may have the machine's network in place of its own.
    fn without_own_network(&self, plan: &BuildPlan, error: &SetupError) -> Result<FixedNetwork, Failure> {
        match self.core.settings.fod_network {
            FodNetwork::Auto => Ok(FixedNetwork::Host(Some(error.reason()))),
            FodNetwork::Isolated | FodNetwork::Host => Err(no_own_network(&plan.derivation, &error.reason())),
        }
    }

    /// Makes room for another run of the builder.
    async fn begin_anew(&self, workspace: &mut Workspace, confined: Confined) -> Result<(), Failure> {
        let beside = needs_directory_beside_the_store(self.target, &self.occupied, confined);
        workspace.begin_anew(&self.target.path, beside).await
    }

    /// Removes what an engine that was killed may have left at scratch paths in the store, and keeps a collector from doing
    /// so with what is made there now.
    async fn clear_scratch_paths(&self, plan: &BuildPlan) -> Result<(), Failure> {
        let is_in_store = |output: &&PlannedOutput| {
            output.path.as_ref() != Some(&output.scratch) && output.directory == self.core.real_dir()
        };
        let scratch: BTreeSet<StorePath> =
            plan.made().filter(is_in_store).map(|output| output.scratch.clone()).collect();
        if scratch.is_empty() {
            return Ok(());
        }
        self.core.store.add_temp_roots(scratch.iter().cloned().collect()).await?;
        Ok(delete_leftovers(&self.core.store, scratch).await?)
    }

    /// The plan of what happens in the build's directories.
    async fn plan(&self, workspace: &mut Workspace, confined: Confined) -> Result<BuildPlan, Failure> {
        let (core, target) = (self.core, self.target);
        if confined == Confined::Nothing {
            check_home(Path::new(HOME))?;
        }
        // Without a sandbox nothing of the plan is in there.
        let chroot = workspace.chroot_directory().unwrap_or_default();
        let hook_paths = if confined == Confined::Sandbox && !target.is_basic {
            pre_build_hook(core, &target.path, &chroot).await?
        } else {
            Vec::new()
        };
        let place = Place {
            credentials: workspace.credentials(),
            ids: workspace.ids(),
            chroot,
            hook_paths,
            build_directory: workspace
                .build_directory()
                .ok_or_else(|| Failure::misc("the build has no directory"))?,
            network: self.network.clone(),
        };
        let plan = self.prepared.plan(core, target, &self.missing, &self.occupied, confined, &place)?;
        self.tell_of_network(&plan);
        workspace.expect_outputs(plan.made().cloned().collect());
        Ok(plan)
    }

    /// Says so if the builder does not get the network that was wanted (X2).
    fn tell_of_network(&self, plan: &BuildPlan) {
        let shares = plan.launch.sandbox().is_some_and(|sandbox| sandbox.network == Network::Host);
        if let FixedNetwork::Host(Some(reason)) = &self.network
            && shares
        {
            self.core.events.warn(format!(
                "the fixed-output derivation '{}' is built with the network of this machine and not with one of its own: \
                 {reason}; 'fod-network = host' accepts that without a warning",
                plan.derivation
            ));
        }
    }

    /// Waits until the log of the last builder is stored; it has its place to itself.
    async fn log_is_stored(&mut self) {
        if let Some(log) = self.log.take() {
            // What there is to say of it has been said.
            let _ = log.await;
        }
    }

    fn activity(&self) -> ActivityGuard {
        let derivation = self.core.store_dir().print(&self.target.path);
        let text = match self.target.mode {
            BuildMode::Normal => match self.number {
                (_, 1) => format!("building '{derivation}'"),
                (number, total) => format!("building '{derivation}' (round {number}/{total})"),
            },
            BuildMode::Check => format!("checking outputs of '{derivation}'"),
            BuildMode::Repair => format!("repairing outputs of '{derivation}'"),
        };
        let activity = Activity::Build { drv: derivation.into(), machine: None };
        self.core.events.start_with_text(ActivityId::NONE, Verbosity::Info, activity, text)
    }

    /// Runs the builder, and judges its end.
    async fn execute(
        &mut self,
        plan: &BuildPlan,
        workspace: &mut Workspace,
        result: &mut BuildResult,
    ) -> Result<(), Stopped> {
        let core = self.core;
        // It goes to the same file as that of the round before, and after it.
        self.log_is_stored().await;
        let log_path = core.store.log_path(&self.target.path, false);
        let mut log = BuilderLog::new(&core.settings, self.activity(), log_path);
        if self.number.0 > 1 && !core.settings.print_repeated_builds {
            log = log.quiet();
        }
        let execution = workspace.run(&plan.launch, plan.limits, &mut log).await;
        let log = log.finish();
        self.log = log.stored;
        let Execution { exit, isolation, exceeded } = match execution {
            Ok(execution) => execution,
            Err(SuperviseError::Setup(error)) if is_refusal(&error) => return Err(Stopped::Refused(error)),
            Err(SuperviseError::Setup(error)) if error.stage == SetupStage::NetworkHelper => {
                return Err(Stopped::Unconnected(error));
            }
            Err(SuperviseError::Setup(error)) => {
                return Err(setup_failure(&plan.derivation, &error, "").into());
            }
            Err(error) => return Err(Failure::misc(error).into()),
        };
        result.cpu_user = u64::try_from(exit.user.as_micros()).ok();
        result.cpu_system = u64::try_from(exit.system.as_micros()).ok();
        result.memory_peak = exit.memory_peak;
        result.isolation = isolation.as_ref().map(ToString::to_string);
        if let Some(isolation) = &result.isolation {
            core.events.message(Verbosity::Talkative, format!("'{}': {isolation}", plan.derivation));
        }
        if exit.survivors > 0 {
            return Err(Failure::misc(format!(
                "{} processes of the builder of '{}' cannot be killed, so that its outputs cannot be trusted",
                exit.survivors, plan.derivation
            ))
            .into());
        }
        if exit.network_lost && exit.status != ExitStatus::Code(0) {
            return Err(network_lost(plan).into());
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
        });
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// What becomes of the outputs.
    fn registration(&self, plan: &BuildPlan, workspace: &Workspace) -> Registration<'_> {
        let shares_network = plan.launch.sandbox().is_some_and(|sandbox| sandbox.network == Network::Host);
        let own_directory = self.core.real_dir().join(LocalStore::build_directory_name(&self.target.path));
        Registration {
            path: &self.target.path,
            derivation: &self.target.derivation,
            options: &self.prepared.options,
            output_paths: &self.target.outputs,
            scratch: plan.scratch.clone(),
            outputs: plan.outputs.clone(),
            inputs: &self.prepared.inputs,
            builder: workspace.builder_uid(),
            copy_to: shares_network.then(|| own_directory.clone()),
            own_directory,
            replaces: self.target.mode == BuildMode::Repair,
        }
    }
}

/// A world that could not be set up, and what to do about it (B12).
fn setup_failure(derivation: &str, error: &SetupError, advice: &str) -> Failure {
    Failure::misc(format!("unable to start build process of '{derivation}': {error}{advice}"))
}

/// A builder whose network went away while it ran.
fn network_lost(plan: &BuildPlan) -> Failure {
    let helper = plan.launch.sandbox().and_then(|sandbox| sandbox.network_helper.clone()).unwrap_or_default();
    Failure::new(
        BuildStatus::TransientFailure,
        format!(
            "the builder of '{}' has lost its network, since '{helper}', which connected it, has ended",
            plan.derivation
        ),
    )
}

/// Whether the machine does not let anybody have what a sandbox needs, as opposed to something having gone wrong.
fn is_refusal(error: &SetupError) -> bool {
    let Some(errno) = error.errno.map(Errno::from_raw_os_error) else { return false };
    match error.stage {
        SetupStage::Process | SetupStage::Identity => {
            matches!(
                errno,
                Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS | Errno::INVAL | Errno::NOSYS
            )
        }
        SetupStage::Mounts | SetupStage::Root | SetupStage::Network => errno == Errno::PERM,
        _ => false,
    }
}

/// Refuses a home that exists.
fn check_home(home: &Path) -> Result<(), Failure> {
    if home.symlink_metadata().is_ok() {
        return Err(Failure::misc(format!("directory '{}' exists; please remove it", home.display())));
    }
    Ok(())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_a_home_that_exists_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("homeless-shelter");
        assert!(check_home(&home).is_ok());
        std::os::unix::fs::symlink("nowhere", &home).unwrap();
        let failure = check_home(&home).unwrap_err();
        assert_eq!(failure.status, BuildStatus::MiscFailure);
        assert_eq!(
            failure.message.to_str_lossy(),
            format!("directory '{}' exists; please remove it", home.display())
        );
    }
}
