//! What a build holds while it runs, and how it is given back.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_fs::PathLocks;
use kiln_sandbox::{BuildDirectory, BuildUser, ChrootDirectory, Credentials, LaunchPlan};
use kiln_schedule::Limits;
use kiln_store::blocking;
use kiln_store_path::StorePath;

use super::supervise::{Execution, SuperviseError, Supervisor};
use crate::engine::Core;
use crate::error::Failure;
use crate::slots::Slot;

/// The slot, build user, locks, directories and processes of one build.
///
/// However a build ends, also by being given up at any await, they are given back in this order: the processes are
/// killed and waited for, then the directories are deleted, then locks, user and slot are released. Nothing of a build
/// is touched while one of its processes may live.
pub(crate) struct Workspace {
    core: Arc<Core>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    supervisor: Option<Supervisor>,
    directories: Directories,
    locks: PathLocks,
    user: Option<BuildUser>,
    slot: Slot,
}

#[derive(Debug, Default)]
struct Directories {
    chroot: Option<ChrootDirectory>,
    build: Option<BuildDirectory>,
}

impl Workspace {
    pub(crate) fn new(core: &Arc<Core>, slot: Slot, user: Option<BuildUser>, locks: PathLocks) -> Self {
        // Counted from here on, so that nobody takes the engine for idle while a build is being given up.
        core.untidy.send_modify(|count| *count += 1);
        let held = Held { supervisor: None, directories: Directories::default(), locks, user, slot };
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

    /// The build user's id, if there is one.
    pub(crate) fn builder_uid(&self) -> Option<u32> {
        self.held.as_ref().and_then(|held| held.user.as_ref()).map(BuildUser::uid)
    }

    /// Makes the directories of the build, and says where they are: the one beside the store if it is sandboxed, and the
    /// builder's own.
    pub(crate) async fn make_directories(
        &mut self,
        sandboxed: bool,
        build_dir: PathBuf,
        derivation: &StorePath,
    ) -> Result<(Option<PathBuf>, PathBuf), Failure> {
        let credentials = self.credentials();
        let real_dir = self.core.real_dir().to_path_buf();
        let (name, chroot) = (derivation.name().to_owned(), format!("{derivation}.chroot"));
        let (build, chroot) = blocking(move || {
            let build = BuildDirectory::create(&build_dir, name.as_bytes(), &credentials)?;
            let make = || ChrootDirectory::create(&real_dir, chroot.as_bytes(), &credentials);
            let chroot = sandboxed.then(make).transpose()?;
            Ok::<_, kiln_sandbox::SandboxError>((build, chroot))
        })
        .await?;
        let paths = (chroot.as_ref().map(ChrootDirectory::path), build.path());
        self.held()?.directories = Directories { chroot, build: Some(build) };
        Ok(paths)
    }

    /// Runs the builder to its end.
    pub(crate) async fn run(
        &mut self,
        plan: &LaunchPlan,
        limits: Limits,
        log: impl FnMut(&[u8]),
    ) -> Result<Execution, SuperviseError> {
        let running = self.core.launcher.launch(plan)?;
        let supervisor = Supervisor::new(running.status, running.log, limits)?;
        let Some(held) = &mut self.held else { return Err(kiln_sandbox::SandboxError::LauncherGone.into()) };
        held.supervisor.insert(supervisor).run(log).await
    }

    /// Keeps the build directory when the rest is given back, readable for the user; says where it is.
    pub(crate) fn keep_build_directory(&mut self) -> Result<Option<PathBuf>, Failure> {
        let build = self.held.as_mut().and_then(|held| held.directories.build.take());
        Ok(build.map(BuildDirectory::keep).transpose()?)
    }

    /// Where the builder's files are, for a look at the free space.
    pub(crate) fn build_directory(&self) -> Option<PathBuf> {
        self.held.as_ref()?.directories.build.as_ref().map(BuildDirectory::path)
    }

    /// Marks the locks as no longer needed by anybody: the outputs are valid.
    pub(crate) fn outputs_are_valid(&mut self) {
        if let Some(held) = &mut self.held {
            held.locks.delete_on_release(true);
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let core = Arc::clone(&self.core);
        // Without a runtime the program is ending; the launcher ends with it and kills what is left.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            held.give_back(&core).await;
            core.untidy.send_modify(|count| *count -= 1);
        });
    }
}

impl Held {
    async fn give_back(self, core: &Core) {
        let Self { supervisor, directories, locks, user, slot } = self;
        if let Some(mut supervisor) = supervisor {
            supervisor.abandon().await;
        }
        // The next build may begin while this one's directories are deleted.
        drop(slot);
        let removed = blocking(move || {
            let removed = directories.remove();
            drop(locks);
            drop(user);
            removed
        });
        if let Err(error) = removed.await {
            core.events.warn(format!("cannot remove what a build left behind: {error}"));
        }
    }
}

impl Directories {
    fn remove(self) -> Result<(), kiln_sandbox::SandboxError> {
        let chroot = self.chroot.map_or(Ok(()), ChrootDirectory::remove);
        let build = self.build.map_or(Ok(()), BuildDirectory::remove);
        chroot.and(build)
    }
}
