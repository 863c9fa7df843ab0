//! What requests and goals work with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kiln_events::EventSender;
use kiln_fs::{Directory, Trash};
use kiln_narinfo::{PathInfo, Realisation};
use kiln_sandbox::{BuildDirectories, BuildUsers, Cgroups, ChrootDirectories, Launcher, SandboxError};
use kiln_schedule::Slots;
use kiln_settings::Settings;
use kiln_store::{Follow, LocalStore, blocking};
use kiln_store_path::{OutputsSpec, StoreDir, StorePath};
use kiln_substitute::Existing;
use tokio::sync::watch;

use crate::audience::Audience;
use crate::build_hook::BuildHook;
use crate::discovery::Discovery;
use crate::durations::Durations;
use crate::error::{EngineError, Failure};
use crate::execute::LOW_DISK_SPACE;
use crate::figures::Figures;
use crate::goal::{
    Contents, DerivationGoal, Failures, Interest, Origins, Outcome, OutcomeKind, PathGoal, Registry,
    SharedOutcome, derivation_goal, path_goal,
};
use crate::profile::{Profile, Profiles, slots_for_builds, to_usize};
use crate::request::BuildMode;
use crate::slots::{SlotPool, SlotsOfClient};
use crate::tidier::Tidier;
use crate::urgency::Urgencies;

/// A derivation that is made valid in some mode, on the terms of a profile.
type GoalKey = (StorePath, BuildMode, u64);

/// What all clients of an engine share.
pub(crate) struct Shared {
    pub(crate) store: LocalStore,
    /// The environment that `impureEnvVars` takes from.
    pub(crate) environment: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) build_users: Option<BuildUsers>,
    /// Where builds have cgroups, if they are to have some.
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) build_directories: Arc<BuildDirectories>,
    pub(crate) chroot_directories: Arc<ChrootDirectories>,
    /// What builds leave beside the store's objects.
    pub(crate) trash: Arc<Trash>,
    pub(crate) tidier: Arc<Tidier>,
    pub(crate) slot_pool: Arc<SlotPool>,
    pub(crate) durations: Durations,
    pub(crate) urgencies: Arc<Urgencies>,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) failures: Arc<Failures>,
    pub(crate) figures: Figures,
    /// Counts what still has to be tidied up after builds: see [`crate::Engine::idle`].
    pub(crate) untidy: watch::Sender<usize>,
    pub(crate) profiles: Profiles,
    /// Who is told what concerns no client.
    owner: EventSender,
    goals: Registry<GoalKey, DerivationGoal, SharedOutcome>,
    /// Paths that are wanted as they are, on the terms of a profile.
    paths: Registry<(StorePath, Existing, u64), PathGoal, SharedOutcome>,
}

/// What one request or goal works with: what all share, the terms of the client that began it, and who is told about it.
pub(crate) struct Core {
    shared: Arc<Shared>,
    /// With temporary roots of its own: the client's for a request, and those of a goal for that.
    pub(crate) store: LocalStore,
    /// Those of the client that began it.
    pub(crate) slots: Arc<SlotsOfClient>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) audience: Arc<Audience>,
    /// To the audience.
    pub(crate) events: EventSender,
    /// What the request that began this has read of the store's contents.
    pub(crate) contents: Arc<Contents>,
    /// What the goal has asked of substituters for what it is to make.
    pub(crate) origins: Mutex<Origins>,
}

impl Deref for Core {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Core {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: LocalStore,
        slots: Arc<SlotsOfClient>,
        profile: Arc<Profile>,
        audience: Arc<Audience>,
    ) -> Self {
        let events = shared.owner.with_sink(Arc::<Audience>::clone(&audience));
        let settings = Arc::clone(&profile.settings);
        Self {
            shared,
            store,
            slots,
            settings,
            profile,
            audience,
            events,
            contents: Arc::default(),
            origins: Mutex::default(),
        }
    }

    /// The goal of a derivation, begun if nobody wanted it yet. Who listens here listens there, too.
    pub(crate) fn want_derivation(
        &self,
        path: &StorePath,
        outputs: OutputsSpec,
        mode: BuildMode,
    ) -> Interest<DerivationGoal, SharedOutcome> {
        self.goals.join_or_start(
            (path.clone(), mode, self.profile.id),
            |goal| {
                let joins = goal.wanted.widen(&outputs);
                if joins {
                    self.audience.include(&goal.audience);
                }
                joins
            },
            || {
                let core = Arc::new(self.for_goal());
                let goal = Arc::new(DerivationGoal::new(outputs.clone(), &core));
                let discovering = self.discovery.begin();
                let way = derivation_goal(core, path.clone(), None, mode, Arc::clone(&goal), discovering);
                (goal, way)
            },
        )
    }

    /// The goal of a path that is wanted as it is, begun if nobody wanted it yet; of one that is valid already, if it is to be
    /// replaced. Who listens here listens there, too.
    pub(crate) fn want_path(
        &self,
        path: &StorePath,
        existing: Existing,
    ) -> Interest<PathGoal, SharedOutcome> {
        self.paths.join_or_start(
            (path.clone(), existing, self.profile.id),
            |goal| {
                self.audience.include(&goal.audience);
                true
            },
            || {
                let core = Arc::new(self.for_goal());
                let goal = Arc::new(PathGoal { audience: Arc::clone(&core.audience) });
                (goal, path_goal(core, path.clone(), existing))
            },
        )
    }

    /// What a goal that is wanted here works with.
    pub(crate) fn for_goal(&self) -> Self {
        let audience = Audience::new(&self.shared.owner);
        self.audience.include(&audience);
        let (slots, profile) = (Arc::clone(&self.slots), Arc::clone(&self.profile));
        let store = self.store.with_own_roots();
        let contents = Arc::clone(&self.contents);
        Self { contents, ..Self::new(Arc::clone(&self.shared), store, slots, profile, audience) }
    }

    /// Keeps the outputs of a goal from being collected as long as what this is for lasts. While the goal is wanted, they are
    /// kept by it.
    pub(crate) async fn keep(&self, outcome: SharedOutcome) -> SharedOutcome {
        match self.store.add_temp_roots(outcome.outputs.values().cloned().collect()).await {
            Ok(()) => outcome,
            Err(error) => {
                let result = Failure::from(error).into_result();
                Arc::new(Outcome::failure(OutcomeKind::Failed, result))
            }
        }
    }

    /// Whether what was not made the same again is kept beside what it differs from.
    pub(crate) fn keeps_what_differs(&self) -> bool {
        self.settings.keep_failed || self.settings.run_diff_hook
    }

    /// As [`Core::sign`], for the record of an output whose path follows from its content.
    pub(crate) fn sign_realisation(&self, realisation: &mut Realisation) {
        for key in &self.profile.secret_keys {
            realisation.sign(key);
        }
    }

    /// Signs what was built here with the keys of `secret-key-files`.
    pub(crate) fn sign(&self, info: &mut PathInfo) -> Result<(), Failure> {
        for key in &self.profile.secret_keys {
            info.sign(self.store_dir(), key).map_err(Failure::misc)?;
        }
        Ok(())
    }
}

impl Shared {
    pub(crate) fn new(
        launcher: Launcher,
        store: LocalStore,
        settings: &Settings,
        environment: BTreeMap<Vec<u8>, Vec<u8>>,
        owner: EventSender,
    ) -> Result<Self, EngineError> {
        let is_root = rustix::process::geteuid().is_root();
        let build_users = if is_root { build_users(&store, settings)? } else { None };
        let slots = Slots {
            builds: slots_for_builds(settings),
            substitutions: to_usize(settings.max_substitution_jobs),
        };
        let build_dir = match &settings.build_dir {
            Some(directory) => PathBuf::from(directory),
            None => store.config().locations.build_dir.clone(),
        };
        let slot_pool = SlotPool::new(slots);
        let beside = store.directory().try_clone().map_err(Failure::from)?;
        let tidier = Arc::new(Tidier::default());
        let trash = Arc::new(trash(&store, beside.try_clone().map_err(Failure::from)?, &tidier)?);
        Ok(Self {
            build_directories: Arc::new(BuildDirectories::new(build_dir)),
            chroot_directories: Arc::new(ChrootDirectories::new(beside, Arc::clone(&trash))),
            trash,
            tidier,
            durations: Durations::in_directory(&store.config().locations.state_dir),
            urgencies: Arc::default(),
            discovery: Discovery::new(Arc::clone(&slot_pool)),
            store,
            environment,
            launcher: Arc::new(launcher),
            build_users,
            cgroups: settings.use_cgroups.then(Cgroups::of_this_process).transpose()?,
            slot_pool,
            failures: Arc::default(),
            figures: Figures::default(),
            untidy: watch::Sender::new(0),
            profiles: Profiles::default(),
            owner,
            goals: Registry::new(),
            paths: Registry::new(),
        })
    }

    /// What settings make of the engine, and who is told what is wrong with them.
    pub(crate) fn profile(
        &self,
        settings: &Settings,
        events: &EventSender,
    ) -> Result<Arc<Profile>, EngineError> {
        self.profiles.of(settings, || BuildHook::new(settings, &self.environment, events))
    }

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

    /// Does what has been put off until builds pause.
    pub(crate) fn tidy_up(&self) {
        self.durations.save();
        if let Err(error) = self.chroot_directories.empty_trash().and(self.build_directories.empty_trash()) {
            self.owner.warn(format!("cannot remove what builds left behind: {error}"));
        }
    }

    /// Those of the paths that are valid, as the database itself says: for whoever deletes the others.
    pub(crate) async fn valid_on_record<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a StorePath>,
    ) -> Result<BTreeSet<StorePath>, kiln_store::Error> {
        let paths: Vec<StorePath> = paths.into_iter().cloned().collect();
        if paths.is_empty() {
            return Ok(BTreeSet::new());
        }
        let store = self.store.clone();
        blocking(move || store.valid_among_blocking(&paths)).await
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
}

/// The users that run builds if Kiln is root's: without accounts, or the members of a group (B7).
fn build_users(store: &LocalStore, settings: &Settings) -> Result<Option<BuildUsers>, SandboxError> {
    let state = &store.config().locations.state_dir;
    Ok(if settings.auto_allocate_uids {
        let pool = state.join("userpool2");
        Some(BuildUsers::without_accounts(settings.start_id, settings.id_count, &pool)?)
    } else if settings.build_users_group.is_empty() {
        None
    } else {
        Some(BuildUsers::new(&settings.build_users_group, &state.join("userpool"))?)
    })
}

/// Trash in the store directory, which collectors leave alone and `tidier` empties.
fn trash(store: &LocalStore, directory: Directory, tidier: &Arc<Tidier>) -> Result<Trash, Failure> {
    let root = StorePath::from_base_name(Trash::STORE_PATH).map_err(Failure::misc)?;
    let (store, tidier) = (store.clone(), Arc::clone(tidier));
    Ok(Trash::spared_by(directory, move || {
        // Also what is given up before there is a build that ends.
        tidier.later();
        let keeping = store.with_own_roots();
        keeping.add_temp_roots_blocking(std::slice::from_ref(&root)).map_err(io::Error::other)?;
        Ok(keeping)
    }))
}
