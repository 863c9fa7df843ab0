//! Building a derivation on the build hook: turn → locks → question → another machine → outputs that are valid.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_derivation::{BuildOptions, DerivationKind};
use kiln_events::{Activity, ActivityId, BuildResult, BuildStatus, Text, Verbosity};
use kiln_fs::PathLocks;
use kiln_protocol::hook::Work;
use kiln_sandbox::ExitStatus;
use kiln_schedule::JobKind;
use kiln_store::blocking;
use kiln_store_path::{OutputName, StorePath};

use super::build::{Locked, built, lock_outputs, wait_for_locks};
use super::derivation::{GoalError, Target, output_paths};
use super::outcome::Outcome;
use super::round::now;
use crate::audience::ExpectedWork;
use crate::build_hook::{Accepted, Answer, Followed, Kind, Offer, hook_failure};
use crate::core::Core;
use crate::error::Failure;
use crate::execute::Ending;
use crate::hooks::post_build_hook;
use crate::leftovers::delete_leftovers;
use crate::log::{BuilderLog, HookLog};
use crate::request::BuildMode;
use crate::slots::Slot;

/// What has become of a derivation that was offered to the hook.
pub(super) enum Offered {
    /// Another machine builds it.
    Accepted(RemoteBuild),
    /// It is to be built here, in this slot if there was one free.
    Declined(Option<Slot>),
    /// Somebody else has made all outputs meanwhile.
    Valid(BTreeMap<OutputName, StorePath>),
}

/// Offers a derivation to the hook until it says yes or no (D7, H1).
///
/// Nothing is held while others talk to the hook, or while there is no room on the machines. A free slot for builds is kept
/// during the question, so that what the hook is told of it stays true.
pub(super) async fn offer(
    core: &Arc<Core>,
    target: &Target,
    options: &BuildOptions,
) -> Result<Offered, Failure> {
    if target.mode != BuildMode::Normal || target.is_basic {
        return Ok(Offered::Declined(None));
    }
    let hook = &core.profile.build_hook;
    let derivation = core.store_dir().print(&target.path);
    let priority = core.priority(&target.path);
    let (system, features) = (target.derivation.system.clone(), options.required_system_features.clone());
    let mut offer = Offer { derivation, kind: Kind { system, features }, willing: false };
    let mut waiting = None;
    loop {
        if !hook.is_there() {
            return Ok(Offered::Declined(None));
        }
        let turn = hook.turn(priority.clone()).await;
        let claim = match Claim::try_new(core, target).await? {
            Ok(claim) => claim,
            Err(NoClaim::Valid(outputs)) => {
                hook.pass_on(&offer.kind);
                return Ok(Offered::Valid(outputs));
            }
            Err(NoClaim::Locked) => {
                drop(turn);
                hook.pass_on(&offer.kind);
                wait_for_locks(core, target).await?;
                continue;
            }
        };
        let may_build_here = core.profile.slots_for_builds > 0;
        let slot = may_build_here.then(|| core.slots.try_acquire(JobKind::Build, priority.clone())).flatten();
        offer.willing = slot.is_some();
        match turn.ask(&offer, &core.events).await? {
            Answer::Accepted(accepted) => {
                return Ok(Offered::Accepted(RemoteBuild { claim: claim.with(accepted) }));
            }
            Answer::Declined => {
                claim.release().await;
                return Ok(Offered::Declined(slot));
            }
            Answer::Postponed => {
                // Before somebody else asks, who may be told that it is free.
                drop(slot);
                claim.release().await;
                drop(turn);
                let text = || format!("waiting for a machine to build '{}'", offer.derivation);
                let activity = Activity::BuildWaiting { resolved: None };
                waiting.get_or_insert_with(|| {
                    core.events.start_with_text(ActivityId::NONE, Verbosity::Warn, activity, text())
                });
                hook.wait(&offer.kind, priority.clone()).await;
            }
        }
    }
}

/// A build on another machine.
pub(super) struct RemoteBuild {
    claim: Claim,
}

impl RemoteBuild {
    /// Waits for the end of the build, and looks whether its outputs are valid.
    pub(super) async fn run(
        mut self,
        target: &Target,
        inputs: &BTreeSet<StorePath>,
        mut expected: ExpectedWork,
    ) -> Result<Outcome, GoalError> {
        expected.start();
        let core = Arc::clone(&self.claim.core);
        let mut result =
            BuildResult { times_built: 1, start_time: now(), ..BuildResult::new(BuildStatus::Built) };
        let mut made = self.follow(target, inputs).await;
        // What waits for a machine can have this one.
        drop(self);
        if let Ok(outputs) = &made {
            outputs.values().for_each(|path| core.contents.made(path));
            if let Err(failure) = post_build_hook(&core, &target.path, outputs.values()).await {
                made = Err(failure);
            }
        }
        result.stop_time = now();
        expected.end(made.is_ok());
        match made {
            Ok(outputs) => Ok(built(&core, outputs, result)),
            Err(failure) => {
                result.status = failure.status;
                result.error_message = failure.message;
                result.log_tail = failure.log_tail;
                Err(GoalError::Built(Box::new(result)))
            }
        }
    }

    async fn follow(
        &mut self,
        target: &Target,
        inputs: &BTreeSet<StorePath>,
    ) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
        let core = Arc::clone(&self.claim.core);
        let store_dir = core.store_dir();
        let derivation = store_dir.print(&target.path);
        let Some(Held { accepted: Some(accepted), missing, .. }) = &mut self.claim.held else {
            return Err(Failure::misc("the build is over"));
        };
        let machine = accepted.machine.clone();
        let build = Activity::Build { drv: derivation.as_str().into(), machine: Some(machine.clone()) };
        let activity = core.events.start(ActivityId::NONE, Verbosity::Info, build);
        let log = BuilderLog::new(&core.settings, activity, core.store.log_path(&target.path, false));
        let mut log = HookLog::new(log, derivation.as_str().into());
        let work = Work {
            inputs: inputs.iter().map(|path| store_dir.print(path)).collect(),
            outputs: missing.iter().map(OutputName::to_string).collect(),
        };
        let limit = Some(core.settings.max_build_log_size).filter(|limit| *limit > 0);
        let Followed { status, exceeded } = accepted.follow(&work, limit, &mut log).await;
        let log = log.finish();
        if let Some(stored) = log.stored {
            // What there is to say of it has been said.
            let _ = stored.await;
        }
        let Some(status) = status else {
            return Err(Failure::misc(format!(
                "nobody knows how the build hook for '{derivation}' has ended"
            )));
        };
        let kind = target.derivation.kind();
        let failure = hook_failure(Ending {
            derivation: &derivation,
            status,
            exceeded,
            is_fixed: kind.is_ok_and(|kind| kind == DerivationKind::Fixed),
            disk_is_full: status != ExitStatus::Code(0) && core.is_low_on_disk_space(None).await,
            tail: log.tail,
        });
        match failure {
            Some(failure) => Err(failure),
            None => made_outputs(&core, target, &machine).await,
        }
    }
}

/// The outputs that the hook has brought back. It has registered them itself, so that there is nothing left to do but to see
/// whether it did (H4).
async fn made_outputs(
    core: &Arc<Core>,
    target: &Target,
    machine: &Text,
) -> Result<BTreeMap<OutputName, StorePath>, Failure> {
    let (engine, made) = (Arc::clone(core), target.clone());
    let outputs = blocking(move || output_paths(&engine.store, &made.path, &made.derivation)).await?;
    let valid = core.valid(outputs.values()).await?;
    let is_valid = |name: &&OutputName| outputs.get(*name).is_some_and(|path| valid.contains(path));
    match target.derivation.outputs.keys().find(|name| !is_valid(name)) {
        None => Ok(outputs),
        Some(name) => Err(Failure::misc(format!(
            "the build of '{}' on '{}' has succeeded, but its output '{name}' is not valid here",
            core.store_dir().display(&target.path),
            machine.to_str_lossy(),
        ))),
    }
}

/// The locks on the outputs of a build that is offered to the hook, and then the hook that builds it.
///
/// However that ends, also by being given up at any await, the hook's processes are killed, then what they have left of
/// outputs that are not valid is deleted, then the locks are released.
struct Claim {
    core: Arc<Core>,
    held: Option<Held>,
}

struct Held {
    accepted: Option<Box<Accepted>>,
    locks: PathLocks,
    /// The outputs that are wanted of the build.
    missing: BTreeSet<OutputName>,
    /// Where nothing stays that is not valid, as far as that is known.
    places: BTreeSet<StorePath>,
}

/// Why there is nothing to offer.
enum NoClaim {
    /// Somebody else works on an output.
    Locked,
    /// All outputs are valid.
    Valid(BTreeMap<OutputName, StorePath>),
}

impl Claim {
    /// Locks the outputs, if nobody else works on them, and looks which are missing.
    async fn try_new(core: &Arc<Core>, target: &Target) -> Result<Result<Self, NoClaim>, Failure> {
        let (engine, locking) = (Arc::clone(core), target.clone());
        let locked = blocking(move || lock_outputs(&engine, &locking)).await?;
        Ok(match locked {
            Locked::Elsewhere => Err(NoClaim::Locked),
            Locked::Valid(outputs) => Err(NoClaim::Valid(outputs)),
            Locked::Taken { locks, missing, .. } => {
                let places = target.derivation.known_output_paths().map(|(_, path)| path.clone()).collect();
                let held = Held { accepted: None, locks, missing, places };
                // Counted from here on, so that nobody takes the engine for idle while a build is being given up.
                core.untidy.send_modify(|count| *count += 1);
                Ok(Self { core: Arc::clone(core), held: Some(held) })
            }
        })
    }

    fn with(mut self, accepted: Box<Accepted>) -> Self {
        if let Some(held) = &mut self.held {
            held.accepted = Some(accepted);
        }
        self
    }

    /// Gives the locks back, for somebody else to take them.
    async fn release(mut self) {
        if let Some(held) = self.held.take() {
            let core = Arc::clone(&self.core);
            let task = tokio::spawn(async move { held.give_back(&core).await });
            let _ = task.await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let core = Arc::clone(&self.core);
        // Without a runtime the program is ending. The hook is killed all the same.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move { held.give_back(&core).await });
    }
}

impl Held {
    async fn give_back(self, core: &Core) {
        let Self { accepted, locks, places, .. } = self;
        if let Some(mut accepted) = accepted {
            accepted.end().await;
            core.profiles.a_build_has_ended();
            if let Err(failure) = delete_what_is_not_valid(core, places).await {
                core.events.warn(format!(
                    "cannot remove what a build on another machine left behind: {}",
                    failure.message.to_str_lossy()
                ));
            }
        }
        blocking(move || drop(locks)).await;
        core.untidy.send_modify(|count| *count -= 1);
    }
}

async fn delete_what_is_not_valid(core: &Core, mut paths: BTreeSet<StorePath>) -> Result<(), Failure> {
    let valid = core.valid_on_record(&paths).await?;
    paths.retain(|path| !valid.contains(path));
    Ok(delete_leftovers(&core.store, paths).await?)
}
