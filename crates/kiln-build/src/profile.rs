//! What one client's settings make of the engine.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use kiln_derivation::Platform;
use kiln_narinfo::SecretKey;
use kiln_settings::{MaxJobs, Settings};
use kiln_substitute::{HealthReport, Substituters};
use tokio::sync::OnceCell;

use crate::build_hook::BuildHook;
use crate::error::{EngineError, Failure};
use crate::goal::WaitingPaths;

/// The experimental feature, and the system feature that derivations need whose paths follow from content.
const CA_DERIVATIONS: &str = "ca-derivations";

/// Settings, and what follows from them.
pub(crate) struct Profile {
    /// Goals of one profile are shared by all of its clients.
    pub(crate) id: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) platform: Platform,
    /// 0 if no build may run here at all. How many may is a matter of the client, which does not keep goals apart.
    pub(crate) slots_for_builds: usize,
    pub(crate) secret_keys: Vec<SecretKey>,
    pub(crate) build_hook: Arc<BuildHook>,
    /// Opened when somebody wants a path first.
    pub(crate) substituters: OnceCell<Substituters>,
    pub(crate) waiting_paths: WaitingPaths,
}

/// The profiles that are in use: one for all clients with the same settings.
#[derive(Default)]
pub(crate) struct Profiles(Mutex<State>);

#[derive(Default)]
struct State {
    known: Vec<Weak<Profile>>,
    next_id: u64,
}

impl Profiles {
    /// The profile of these settings. Reads the keys for signing, and makes a hook, if nobody has the same settings.
    pub(crate) fn of(
        &self,
        settings: &Settings,
        build_hook: impl FnOnce() -> Arc<BuildHook>,
    ) -> Result<Arc<Profile>, EngineError> {
        let slots_for_builds = slots_for_builds(settings).min(1);
        let settings = Settings { max_jobs: MaxJobs::Count(slots_for_builds as u64), ..settings.clone() };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.known.retain(|profile| profile.strong_count() > 0);
        let mut known = state.known.iter().filter_map(Weak::upgrade);
        if let Some(profile) = known.find(|profile| *profile.settings == settings) {
            return Ok(profile);
        }
        let mut system_features = settings.system_features.clone();
        if settings.experimental_features.contains(CA_DERIVATIONS) {
            system_features.insert(CA_DERIVATIONS.to_owned());
        }
        let platform = Platform {
            system: settings.system.clone(),
            extra_platforms: settings.extra_platforms.clone(),
            system_features,
        };
        let profile = Arc::new(Profile {
            id: state.next_id,
            platform,
            slots_for_builds,
            secret_keys: read_secret_keys(&settings)?,
            build_hook: build_hook(),
            substituters: OnceCell::new(),
            waiting_paths: WaitingPaths::default(),
            settings: Arc::new(settings),
        });
        state.next_id += 1;
        state.known.push(Arc::downgrade(&profile));
        Ok(profile)
    }

    /// How the substituters fare that somebody has asked.
    pub(crate) fn substituters_health(&self) -> Vec<(String, HealthReport)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let profiles = state.known.iter().filter_map(Weak::upgrade);
        profiles.filter_map(|profile| Some(profile.substituters.get()?.health())).flatten().collect()
    }

    /// A build has ended, of whatever client: there may be room for one that was postponed.
    pub(crate) fn a_build_has_ended(&self) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let profiles = state.known.iter().filter_map(Weak::upgrade);
        profiles.for_each(|profile| profile.build_hook.a_build_has_ended());
    }
}

/// As many builds may run at once.
pub(crate) fn slots_for_builds(settings: &Settings) -> usize {
    to_usize(settings.max_jobs.resolve(cpus()))
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
