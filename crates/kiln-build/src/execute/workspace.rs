//! What a build holds while it runs, and how it is given back.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_events::Verbosity;
use kiln_fs::{Component, Directory, FailPoint, PathLocks, Trash, delete_tree, fail_point};
use kiln_sandbox::{BuildDirectory, BuildUser, ChrootDirectory, Credentials, LaunchPlan, SandboxError};
use kiln_schedule::Limits;
use kiln_store::{LocalStore, blocking};
use kiln_store_path::StorePath;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::keep::{Kept, keep};
use super::supervise::{Execution, SuperviseError, Supervisor};
use crate::core::Core;
use crate::error::Failure;
use crate::log::BuilderLog;
use crate::plan::PlannedOutput;
use crate::slots::Slot;

/// The slot, build user, locks, directories and processes of one build.
///
/// However a build ends, also by being given up at any await, they are given back in this order: the processes are
/// killed and waited for, then outputs that nobody has registered and the directories are deleted (or kept, if that is
/// wanted of failed builds), then locks, user and slot are released. Nothing of a build is touched while one of its
/// processes may live.
pub(crate) struct Workspace {
    core: Arc<Core>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    supervisor: Option<Supervisor>,
    directories: Directories,
    /// What the builder was to make and where, as long as it is not valid.
    outputs: Vec<PlannedOutput>,
    /// What an earlier round has made, in the store's directory.
    earlier: Vec<Component>,
    /// All that was wanted of the build was done.
    has_succeeded: bool,
    /// Nothing of this build may be kept: a builtin may have had credentials.
    is_private: bool,
    /// Says when a registration that has begun is over.
    registration: Option<oneshot::Receiver<()>>,
    /// Makes directories for the next build.
    spares: Option<JoinHandle<()>>,
    locks: PathLocks,
    user: Option<BuildUser>,
    /// Until others may have it.
    slot: Option<Slot>,
}

/// The directories of a build: the one beside the store, if it is sandboxed, and the builder's own.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    chroot: Option<ChrootDirectory>,
    build: Option<BuildDirectory>,
}

impl Workspace {
    pub(crate) fn new(
        core: &Arc<Core>,
        slot: Slot,
        user: Option<BuildUser>,
        locks: PathLocks,
        directories: Directories,
    ) -> Self {
        // Counted from here on, so that nobody takes the engine for idle while a build is being given up.
        core.untidy.send_modify(|count| *count += 1);
        let held = Held {
            supervisor: None,
            directories,
            outputs: Vec::new(),
            earlier: Vec::new(),
            has_succeeded: false,
            is_private: false,
            registration: None,
            spares: None,
            locks,
            user,
            slot: Some(slot),
        };
        Self { core: Arc::clone(core), held: Some(held) }
    }

    fn held(&mut self) -> Result<&mut Held, Failure> {
        self.held.as_mut().ok_or_else(|| Failure::misc("the build is over"))
    }

    /// Whose rights the builder gets.
    pub(crate) fn credentials(&self) -> Credentials {
        let user = self.held.as_ref().and_then(|held| held.user.as_ref());
        user.map_or(Credentials::Caller, BuildUser::credentials)
    }

    /// How many ids come with them.
    pub(crate) fn ids(&self) -> u32 {
        self.held.as_ref().and_then(|held| held.user.as_ref()).map_or(1, BuildUser::ids)
    }

    /// The build user's id, if there is one.
    pub(crate) fn builder_uid(&self) -> Option<u32> {
        self.held.as_ref().and_then(|held| held.user.as_ref()).map(BuildUser::uid)
    }

    /// Runs the builder to its end.
    pub(crate) async fn run(
        &mut self,
        plan: &LaunchPlan,
        limits: Limits,
        log: &mut BuilderLog,
    ) -> Result<Execution, SuperviseError> {
        let running = self.core.launcher.launch(plan)?;
        fail_point(FailPoint::BuilderLaunched);
        let supervisor = Supervisor::new(running.status, running.log, limits)?;
        let Some(held) = &mut self.held else { return Err(kiln_sandbox::SandboxError::LauncherGone.into()) };
        held.spares.get_or_insert_with(|| make_spares(&self.core, held.directories.chroot.is_some()));
        held.is_private = plan.builtin.is_some();
        held.supervisor.insert(supervisor).run(log).await
    }

    /// Says what the builder will make: deleted in the end, unless [`Workspace::outputs_are_valid`].
    pub(crate) fn expect_outputs(&mut self, outputs: Vec<PlannedOutput>) {
        if let Some(held) = &mut self.held {
            held.outputs = outputs;
        }
    }

    /// Says that something lies at the place of an output before it is valid: deleted in the end, unless it becomes so.
    pub(crate) fn expect_in_store(&mut self, path: StorePath, store: &Path) {
        if let Some(held) = &mut self.held {
            let output =
                PlannedOutput { path: Some(path.clone()), scratch: path, directory: store.to_path_buf() };
            held.outputs.push(output);
        }
    }

    /// Says what an earlier round has left in the store's directory: deleted in the end, unless [`Workspace::keep_earlier`].
    pub(crate) fn hold_earlier(&mut self, earlier: Vec<Component>) {
        if let Some(held) = &mut self.held {
            held.earlier = earlier;
        }
    }

    /// Deletes what an earlier round has made: before the outputs become valid, since after a crash nobody would look for it
    /// any more.
    pub(crate) async fn discard_earlier(&mut self) -> Result<(), Failure> {
        let earlier = self.held()?.earlier.clone();
        if earlier.is_empty() {
            return Ok(());
        }
        let store = self.core.store.clone();
        let deleted = blocking(move || {
            earlier.iter().try_for_each(|name| delete_tree(store.directory(), name).map(drop))
        });
        Ok(deleted.await?)
    }

    /// Leaves what an earlier round has made where it is, for whoever wants to know why the next one made something else.
    pub(crate) fn keep_earlier(&mut self) {
        self.hold_earlier(Vec::new());
    }

    /// Takes away what one run of the builder has left, and makes directories for another one.
    pub(crate) async fn begin_anew(
        &mut self,
        derivation: &StorePath,
        sandboxed: bool,
    ) -> Result<(), Failure> {
        let credentials = self.credentials();
        let held = self.held()?;
        if let Some(mut supervisor) = held.supervisor.take() {
            supervisor.abandon().await;
        }
        let directories = std::mem::take(&mut held.directories);
        let (core, derivation) = (Arc::clone(&self.core), derivation.clone());
        let made = blocking(move || {
            directories.discard(&core.trash)?;
            fail_point(FailPoint::RoundCleared);
            Directories::make(&core, &derivation, sandboxed, &credentials)
        });
        let made = made.await?;
        self.held()?.directories = made;
        Ok(())
    }

    /// Does something that must not be left half-done, even if the build is given up meanwhile.
    pub(crate) async fn finish<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (over, registration) = oneshot::channel();
        self.held()?.registration = Some(registration);
        let task = tokio::spawn(async move {
            let result = work.await;
            drop(over);
            result
        });
        task.await.map_err(Failure::misc)
    }

    /// Where the build's directory beside the store is, if it is sandboxed.
    pub(crate) fn chroot_directory(&self) -> Option<PathBuf> {
        self.held.as_ref()?.directories.chroot.as_ref().map(ChrootDirectory::path)
    }

    /// Where the builder's files are.
    pub(crate) fn build_directory(&self) -> Option<PathBuf> {
        self.held.as_ref()?.directories.build.as_ref().map(BuildDirectory::path)
    }

    /// The build has succeeded: the outputs are not the builder's any more. What it made in their place still is.
    pub(crate) fn outputs_are_valid(&mut self) {
        if let Some(held) = &mut self.held {
            held.outputs.retain(|output| output.path.as_ref() != Some(&output.scratch));
            held.has_succeeded = true;
        }
    }

    /// Gives everything back after a build that has succeeded, of which nothing runs any more. The slot first, and to those that
    /// are ready now if they are more urgent than others that wait.
    pub(crate) fn hand_over(mut self, ready: Vec<StorePath>) {
        if let Some(slot) = self.held.as_mut().and_then(|held| held.slot.take()) {
            slot.hand_over(ready);
        }
    }

    /// Gives everything back, and waits for that: what there is to say of it is said while somebody listens.
    pub(crate) async fn close(mut self) {
        if let Some(giving_back) = self.give_back() {
            // A panic has been told already.
            let _ = giving_back.await;
        }
    }

    fn give_back(&mut self) -> Option<JoinHandle<()>> {
        let held = self.held.take()?;
        let core = Arc::clone(&self.core);
        // Without a runtime the program is ending; the launcher ends with it and kills what is left.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            held.give_back(&core).await;
            core.tidier.later();
            let untidy = core.untidy.clone();
            // What is idle no longer uses its store.
            drop(core);
            untidy.send_modify(|count| *count -= 1);
        }))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // It goes on by itself.
        drop(self.give_back());
    }
}

impl Held {
    async fn give_back(self, core: &Core) {
        let Self {
            supervisor,
            directories,
            outputs,
            earlier,
            has_succeeded,
            is_private,
            registration,
            spares,
            locks,
            user,
            slot,
        } = self;
        let has_run = supervisor.is_some();
        if let Some(mut supervisor) = supervisor {
            supervisor.abandon().await;
        }
        if let Some(registration) = registration {
            // Nothing is ever sent: the other end is dropped.
            let _ = registration.await;
        }
        fail_point(FailPoint::ProcessesGone);
        // The next build may begin while this one's directories are deleted.
        drop(slot);
        core.profiles.a_build_has_ended();
        let outputs = not_valid(core, outputs).await;
        let (trash, store) = (Arc::clone(&core.trash), core.store.clone());
        let keeps = core.settings.keep_failed && has_run && !is_private && !has_succeeded;
        let (kept, removed) = blocking(move || {
            let mut directories = directories;
            let build = if keeps { directories.build.take() } else { None };
            let kept = build.map(|build| keep(build, &outputs, user.as_ref().map(BuildUser::uid)));
            let removed = delete(&outputs).and(directories.discard(&trash));
            let deleted = earlier.iter().try_for_each(|name| delete_tree(store.directory(), name).map(drop));
            let removed = removed.and(deleted.map_err(SandboxError::from));
            fail_point(FailPoint::DirectoriesDiscarded);
            drop(locks);
            fail_point(FailPoint::LocksReleased);
            drop(user);
            (kept, removed)
        })
        .await;
        if let Some(spares) = spares {
            // They are in the trash, which may be emptied for the last time from here on. A panic has been told already.
            let _ = spares.await;
        }
        match kept {
            None => {}
            Some(Ok(kept)) => tell(core, &kept),
            Some(Err(error)) => core.events.warn(format!("cannot keep the build directory: {error}")),
        }
        if let Err(error) = removed {
            core.events.warn(format!("cannot remove what a build left behind: {error}"));
        }
    }
}

/// Makes directories and a terminal for the next build while this one runs.
fn make_spares(core: &Core, is_sandboxed: bool) -> JoinHandle<()> {
    let (build, chroot) = (Arc::clone(&core.build_directories), Arc::clone(&core.chroot_directories));
    let launcher = Arc::clone(&core.launcher);
    tokio::task::spawn_blocking(move || {
        launcher.make_spare_terminal();
        // Whoever needs them will be told why there are none.
        let _ = build.make_spare();
        if is_sandboxed {
            let _ = chroot.make_spare();
        }
    })
}

/// Those of the outputs that are not valid: a build may have been given up just when they became so.
async fn not_valid(core: &Core, mut outputs: Vec<PlannedOutput>) -> Vec<PlannedOutput> {
    match core.valid_on_record(outputs.iter().map(|output| &output.scratch)).await {
        Ok(valid) => outputs.retain(|output| !valid.contains(&output.scratch)),
        // Of what nobody knows whether it is valid, nothing is deleted.
        Err(_) => outputs.clear(),
    }
    outputs
}

/// Deletes what was made where it was made.
fn delete(outputs: &[PlannedOutput]) -> Result<(), SandboxError> {
    for output in outputs {
        match Directory::open(&output.directory) {
            Ok(directory) => {
                let name = Component::new(output.scratch.base_name()).map_err(kiln_fs::Error::from)?;
                delete_tree(&directory, &name)?;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn tell(core: &Core, kept: &Kept) {
    let note = format!("note: keeping build directory '{}'", kept.directory.display());
    core.events.message(Verbosity::Notice, note);
    if let Some(outputs) = &kept.outputs {
        let note = format!("note: keeping outputs of the failed build in '{}'", outputs.display());
        core.events.message(Verbosity::Notice, note);
    }
    for error in &kept.refused {
        core.events.warn(format!("an output of the failed build is not kept: {error}"));
    }
}

impl Directories {
    /// Makes those of a build of a derivation. Blocks.
    pub(crate) fn make(
        core: &Core,
        derivation: &StorePath,
        sandboxed: bool,
        credentials: &Credentials,
    ) -> Result<Self, SandboxError> {
        let build = core.build_directories.create(derivation.name().as_bytes(), credentials)?;
        let name = LocalStore::build_directory_name(derivation);
        let make = || core.chroot_directories.create(name.as_bytes(), credentials);
        Ok(Self { chroot: sandboxed.then(make).transpose()?, build: Some(build) })
    }

    fn discard(self, trash: &Trash) -> Result<(), SandboxError> {
        let chroot = self.chroot.map_or(Ok(()), |chroot| chroot.discard(trash));
        let build = self.build.map_or(Ok(()), BuildDirectory::discard);
        chroot.and(build)
    }
}
