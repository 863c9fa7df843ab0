//! The engine: what all its goals share.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln_derivation::Platform;
use kiln_events::EventSender;
use kiln_fs::Trash;
use kiln_narinfo::{PathInfo, SecretKey};
use kiln_sandbox::{BuildDirectories, BuildUsers, Launcher, SandboxError};
use kiln_schedule::Slots;
use kiln_settings::Settings;
use kiln_store::{Follow, LocalStore, blocking};
use kiln_store_path::{OutputsSpec, StoreDir, StorePath};
use tokio::sync::watch;

use crate::counters::Counters;
use crate::error::{EngineError, Failure};
use crate::execute::LOW_DISK_SPACE;
use crate::goal::{Failures, Interest, Registry, SharedOutcome, Wanted, derivation_goal};
use crate::request::BuildMode;
use crate::slots::SlotPool;

/// Small things that builds have left are deleted, many at once, when none has been left for so long ...
const TRASH_IS_QUIET: Duration = Duration::from_millis(250);
/// ... or after so many times that long.
const TRASH_IS_LOOKED_AT: u32 = 20;

/// Makes things valid in one store. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
}

/// What the goals of an engine share.
pub(crate) struct Core {
    pub(crate) store: LocalStore,
    pub(crate) settings: Arc<Settings>,
    pub(crate) platform: Platform,
    /// The environment that `impureEnvVars` takes from.
    pub(crate) environment: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) events: EventSender,
    pub(crate) counters: Arc<Counters>,
    pub(crate) launcher: Launcher,
    pub(crate) build_users: Option<BuildUsers>,
    pub(crate) build_directories: Arc<BuildDirectories>,
    /// What builds leave beside the store's objects.
    pub(crate) trash: Arc<Trash>,
    trash_is_seen_to: AtomicBool,
    pub(crate) slots: Arc<SlotPool>,
    pub(crate) slots_for_builds: usize,
    pub(crate) failures: Arc<Failures>,
    /// Counts what still has to be tidied up after builds: see [`Engine::idle`].
    pub(crate) untidy: watch::Sender<usize>,
    secret_keys: Vec<SecretKey>,
    goals: Registry<(StorePath, BuildMode), Wanted, SharedOutcome>,
}

impl Engine {
    /// Starts an engine for a store, and the launcher process that its builders come from.
    ///
    /// The program's `main` must begin with [`kiln_sandbox::run_if_launcher`], which gets [`crate::run_builtin`]. `environment` is what `impureEnvVars` may
    /// show to builders of fixed outputs; whoever embeds the engine decides what that is.
    ///
    /// # Errors
    /// The launcher, the build users or the keys for signing are not to be had.
    pub fn start(
        store: LocalStore,
        settings: &Settings,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        events: EventSender,
    ) -> Result<Self, EngineError> {
        Self::with_launcher(Launcher::start()?, store, settings, environment, events)
    }

    /// As [`Engine::start`], with a launcher that was started before: for embedders whose `main` is not theirs.
    ///
    /// # Errors
    /// The build users or the keys for signing are not to be had.
    pub fn with_launcher(
        launcher: Launcher,
        store: LocalStore,
        settings: &Settings,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        events: EventSender,
    ) -> Result<Self, EngineError> {
        let is_root = rustix::process::geteuid().is_root();
        let build_users = if is_root && !settings.build_users_group.is_empty() {
            let pool = store.config().locations.state_dir.join("userpool");
            Some(BuildUsers::new(&settings.build_users_group, &pool).map_err(SandboxError::from)?)
        } else {
            None
        };
        let builds = to_usize(settings.max_jobs.resolve(cpus()));
        let slots = Slots { builds, substitutions: to_usize(settings.max_substitution_jobs) };
        let platform = Platform {
            system: settings.system.clone(),
            extra_platforms: settings.extra_platforms.clone(),
            system_features: settings.system_features.clone(),
        };
        let bytes = |(name, value): (OsString, OsString)| (name.into_vec(), value.into_vec());
        let build_dir = match &settings.build_dir {
            Some(directory) => PathBuf::from(directory),
            None => store.config().locations.build_dir.clone(),
        };
        let core = Core {
            build_directories: Arc::new(BuildDirectories::new(build_dir)),
            trash: Arc::new(Trash::new(store.directory().try_clone().map_err(Failure::from)?)),
            trash_is_seen_to: AtomicBool::new(false),
            store,
            platform,
            environment: environment.into_iter().map(bytes).collect(),
            counters: Counters::new(&events),
            events,
            launcher,
            build_users,
            slots: SlotPool::new(slots),
            slots_for_builds: builds,
            failures: Arc::default(),
            untidy: watch::Sender::new(0),
            secret_keys: read_secret_keys(settings)?,
            goals: Registry::new(),
            settings: Arc::new(settings.clone()),
        };
        // Who was killed left directories behind; that they stay is no reason not to build.
        if let Err(error) = core.build_directories.remove_leftovers() {
            core.events
                .warn(format!("cannot remove what builds of an engine that was killed have left: {error}"));
        }
        Ok(Self { core: Arc::new(core) })
    }

    /// Waits until nothing is left of builds that have ended or were given up: no process, no directory, no lock.
    pub async fn idle(&self) {
        // The sender is the engine's own, so that the channel is not closed.
        let _ = self.core.untidy.subscribe().wait_for(|count| *count == 0).await;
        let core = Arc::clone(&self.core);
        blocking(move || core.empty_trash()).await;
    }
}

impl Core {
    pub(crate) fn store_dir(&self) -> &StoreDir {
        self.store.store_dir()
    }

    /// Where the store's objects really are.
    pub(crate) fn real_dir(&self) -> &Path {
        &self.store.config().locations.real_dir
    }

    /// Whether the store's objects are elsewhere than their paths say.
    pub(crate) fn is_diverted(&self) -> bool {
        self.store.config().locations.is_diverted()
    }

    /// The goal of a derivation, begun if nobody wanted it yet.
    pub(crate) fn want_derivation(
        self: &Arc<Self>,
        path: &StorePath,
        outputs: OutputsSpec,
        mode: BuildMode,
    ) -> Interest<Wanted, SharedOutcome> {
        self.goals.join_or_start(
            (path.clone(), mode),
            |wanted| wanted.widen(&outputs),
            || {
                let wanted = Arc::new(Wanted::new(outputs.clone()));
                let goal = derivation_goal(Arc::clone(self), path.clone(), None, mode, Arc::clone(&wanted));
                (wanted, goal)
            },
        )
    }

    /// Sees to it that what builds have left is deleted some time soon.
    pub(crate) fn empty_trash_later(self: &Arc<Self>) {
        if self.trash_is_seen_to.swap(true, Ordering::Relaxed) {
            return;
        }
        let core = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut count = 0;
            for _ in 0..TRASH_IS_LOOKED_AT {
                tokio::time::sleep(TRASH_IS_QUIET).await;
                // When the engine has gone, so has the trash.
                let Some(core) = core.upgrade() else { return };
                let before = std::mem::replace(&mut count, core.trash.count());
                if before == count {
                    break;
                }
            }
            let Some(core) = core.upgrade() else { return };
            core.trash_is_seen_to.store(false, Ordering::Relaxed);
            blocking(move || core.empty_trash()).await;
        });
    }

    fn empty_trash(&self) {
        let beside_the_store = self.trash.empty().map_err(SandboxError::from);
        if let Err(error) = beside_the_store.and(self.build_directories.empty_trash()) {
            self.events.warn(format!("cannot remove what builds left behind: {error}"));
        }
    }

    /// Those of the paths that are valid.
    pub(crate) async fn valid<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<BTreeSet<StorePath>, kiln_store::Error> {
        let paths: Vec<StorePath> = paths.into_iter().cloned().collect();
        if paths.is_empty() { Ok(BTreeSet::new()) } else { self.store.valid_among(paths).await }
    }

    /// All that the paths, which must be valid, refer to, themselves included.
    pub(crate) async fn closure<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<BTreeSet<StorePath>, kiln_store::Error> {
        let paths: Vec<StorePath> = paths.into_iter().cloned().collect();
        if paths.is_empty() {
            Ok(BTreeSet::new())
        } else {
            self.store.closure(paths, Follow::REFERENCES).await
        }
    }

    /// Whether the store, or the directory that a build wrote to, has next to nothing left.
    pub(crate) async fn is_low_on_disk_space(&self, directory: Option<PathBuf>) -> bool {
        let directories = [Some(self.real_dir().to_path_buf()), directory];
        blocking(move || {
            directories.into_iter().flatten().any(|directory| {
                rustix::fs::statvfs(&directory)
                    .is_ok_and(|status| status.f_bavail.saturating_mul(status.f_frsize) < LOW_DISK_SPACE)
            })
        })
        .await
    }

    /// Whether what was not made the same again is kept beside what it differs from.
    pub(crate) fn keeps_what_differs(&self) -> bool {
        self.settings.keep_failed || self.settings.run_diff_hook
    }

    /// Signs what was built here with the keys of `secret-key-files`.
    pub(crate) fn sign(&self, info: &mut PathInfo) -> Result<(), Failure> {
        for key in &self.secret_keys {
            info.sign(self.store_dir(), key).map_err(Failure::misc)?;
        }
        Ok(())
    }
}

fn read_secret_keys(settings: &Settings) -> Result<Vec<SecretKey>, EngineError> {
    let read = |file: &String| {
        let invalid = |error: &dyn std::fmt::Display| {
            EngineError::Failure(Failure::misc(format!("cannot use secret key file '{file}': {error}")))
        };
        let text = std::fs::read_to_string(file).map_err(|error| invalid(&error))?;
        text.trim_end().parse().map_err(|error: kiln_narinfo::ParseKeyError| invalid(&error))
    };
    settings.secret_key_files.iter().map(read).collect()
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
