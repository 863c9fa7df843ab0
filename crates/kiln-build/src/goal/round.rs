//! One run of a builder, from its plan to its registered outputs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_derivation::DerivationKind;
use kiln_events::{Activity, ActivityGuard, ActivityId, BuildResult, BuildStatus, Verbosity};
use kiln_sandbox::{ExitStatus, Network, SetupError, SetupStage};
use kiln_settings::FodNetwork;
use kiln_store_path::OutputName;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::build::{Place, Prepared, built};
use super::derivation::{GoalError, Target};
use super::outcome::Outcome;
use crate::counters::ExpectedBuild;
use crate::engine::Core;
use crate::error::Failure;
use crate::execute::{Ending, Execution, SuperviseError, Workspace, builder_failure};
use crate::hooks::post_build_hook;
use crate::log::BuilderLog;
use crate::plan::{BuildPlan, Confined};
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
    /// Which run this is, and of how many.
    pub(super) number: (u64, u64),
    /// The log of the builder that ran last, while it is being stored.
    pub(super) log: Option<JoinHandle<()>>,
}

/// Why a builder did not end well.
enum Stopped {
    /// It never began: the machine refuses what its world needs.
    Refused(SetupError),
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
        mut expected: ExpectedBuild,
    ) -> Result<Outcome, GoalError> {
        expected.start();
        let mut result =
            BuildResult { times_built: 1, start_time: now(), ..BuildResult::new(BuildStatus::Built) };
        let mut ended = self.make_outputs(&mut workspace, &mut result).await;
        self.log_is_stored().await;
        // The slot and the user are for builders.
        drop(workspace);
        if ended.is_ok() {
            ended = post_build_hook(self.core, &self.target.path, self.target.outputs.values()).await;
        }
        result.stop_time = now();
        expected.end(ended.is_ok());
        match ended {
            Ok(()) => Ok(built(self.core, self.target, result)),
            Err(failure) => {
                result.status = failure.status;
                result.error_message = failure.message;
                result.log_tail = failure.log_tail;
                Err(GoalError::Built(Box::new(result)))
            }
        }
    }

    /// Runs the builder as often as is wanted, and makes valid what it made.
    async fn make_outputs(
        &mut self,
        workspace: &mut Workspace,
        result: &mut BuildResult,
    ) -> Result<(), Failure> {
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
                return check(core, registration, workspace).await;
            }
            let collected = collect_outputs(core, &registration).await?;
            let difference = match &first {
                Some(first) => first.compare(core, registration.path, &collected).await,
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
                workspace.begin_anew(&self.target.path, confined == Confined::Sandbox).await?;
                continue;
            }
            return register(core, registration, collected, workspace).await;
        }
    }

    /// Runs the builder once. Where the machine refuses a sandbox and the user accepts that, it runs without one (X2), from
    /// then on.
    async fn run_builder(
        &mut self,
        workspace: &mut Workspace,
        result: &mut BuildResult,
        confined: &mut Confined,
    ) -> Result<BuildPlan, Failure> {
        let core = self.core;
        let plan = self.plan(workspace, *confined)?;
        let refusal = match self.execute(&plan, workspace, result).await {
            Ok(()) => return Ok(plan),
            Err(Stopped::Failed(failure)) => return Err(failure),
            Err(Stopped::Refused(refusal)) => refusal,
        };
        if *confined == Confined::Nothing || !core.settings.sandbox_fallback || core.is_diverted() {
            return Err(setup_failure(&plan.derivation, &refusal, REFUSED));
        }
        core.events.warn(format!("building '{}' without a sandbox, since {refusal}", plan.derivation));
        *confined = Confined::Nothing;
        workspace.begin_anew(&self.target.path, false).await?;
        let plan = self.plan(workspace, *confined)?;
        match self.execute(&plan, workspace, result).await {
            Ok(()) => Ok(plan),
            Err(Stopped::Failed(failure)) => Err(failure),
            Err(Stopped::Refused(refusal)) => Err(setup_failure(&plan.derivation, &refusal, REFUSED)),
        }
    }

    /// The plan of what happens in the build's directories.
    fn plan(&self, workspace: &mut Workspace, confined: Confined) -> Result<BuildPlan, Failure> {
        let (core, target) = (self.core, self.target);
        if confined == Confined::Nothing {
            self.check_unconfined()?;
        }
        let place = Place {
            credentials: workspace.credentials(),
            // Without a sandbox nothing of the plan is in there.
            chroot: workspace.chroot_directory().unwrap_or_default(),
            build_directory: workspace
                .build_directory()
                .ok_or_else(|| Failure::misc("the build has no directory"))?,
        };
        let plan = self.prepared.plan(core, target, &self.missing, confined, &place)?;
        self.check_network(&plan)?;
        workspace.expect_outputs(plan.outputs.values().cloned().collect());
        Ok(plan)
    }

    /// A builder that sees the host must not find a home there (B1), nor its outputs: those that are valid it could change.
    fn check_unconfined(&self) -> Result<(), Failure> {
        check_home(Path::new(HOME))?;
        if self.target.mode == BuildMode::Check {
            return Err(Failure::misc(format!(
                "cannot check '{}' without a sandbox: the builder would write to its outputs, which are valid",
                self.core.store_dir().display(&self.target.path)
            )));
        }
        match self.target.outputs.iter().find(|(name, _)| !self.missing.contains(*name)) {
            None => Ok(()),
            Some((_, path)) => Err(Failure::misc(format!(
                "cannot build '{}' without a sandbox: its output '{}' is valid already, and the builder would write to it",
                self.core.store_dir().display(&self.target.path),
                self.core.store_dir().display(path)
            ))),
        }
    }

    /// Whether the network that the builder gets is what `fod-network` wants (X2).
    fn check_network(&self, plan: &BuildPlan) -> Result<(), Failure> {
        if plan.launch.sandbox().is_none_or(|sandbox| sandbox.network != Network::Host) {
            return Ok(());
        }
        match self.core.settings.fod_network {
            FodNetwork::Host => Ok(()),
            FodNetwork::Auto => {
                self.core.events.warn(format!(
                    "the fixed-output derivation '{}' is built with the network of this machine, since this version of Kiln \
                     cannot give it one of its own; 'fod-network = host' accepts that without a warning",
                    plan.derivation
                ));
                Ok(())
            }
            FodNetwork::Isolated => Err(Failure::misc(format!(
                "cannot build '{}' with a network of its own, as 'fod-network = isolated' demands: this version of Kiln can \
                 only share the network of this machine ('fod-network = host')",
                plan.derivation
            ))),
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
        let log_path = core.store.log_path(&self.target.path, false);
        let mut log = BuilderLog::new(&core.settings, self.activity(), log_path);
        let execution = workspace.run(&plan.launch, plan.limits, |bytes| log.write(bytes)).await;
        let log = log.finish();
        self.log_is_stored().await;
        self.log = log.stored;
        let Execution { exit, isolation, exceeded } = match execution {
            Ok(execution) => execution,
            Err(SuperviseError::Setup(error)) if is_refusal(&error) => return Err(Stopped::Refused(error)),
            Err(SuperviseError::Setup(error)) => {
                return Err(setup_failure(&plan.derivation, &error, "").into());
            }
            Err(error) => return Err(Failure::misc(error).into()),
        };
        result.cpu_user = u64::try_from(exit.user.as_micros()).ok();
        result.cpu_system = u64::try_from(exit.system.as_micros()).ok();
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
        let copy_to =
            shares_network.then(|| self.core.real_dir().join(format!("{}.chroot", self.target.path)));
        Registration {
            path: &self.target.path,
            derivation: &self.target.derivation,
            options: &self.prepared.options,
            output_paths: &self.target.outputs,
            outputs: plan.outputs.clone(),
            inputs: &self.prepared.inputs,
            builder: workspace.builder_uid(),
            copy_to,
        }
    }
}

/// A world that could not be set up, and what to do about it (B12).
fn setup_failure(derivation: &str, error: &SetupError, advice: &str) -> Failure {
    Failure::misc(format!("unable to start build process of '{derivation}': {error}{advice}"))
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

fn now() -> u64 {
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
