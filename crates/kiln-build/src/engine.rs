//! The engine, as one of its clients has it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_events::{EventSender, Verbosity};
use kiln_sandbox::Launcher;
use kiln_schedule::{Client, UserId};
use kiln_settings::Settings;
use kiln_store::LocalStore;

use crate::audience::{Audience, Listener};
use crate::core::{Core, Shared};
use crate::error::EngineError;
use crate::profile::{Profile, slots_for_builds};
use crate::slots::SlotsOfClient;

/// Makes things valid in one store. Cheap to clone.
///
/// One engine serves many clients, each with settings and a listener of its own ([`Engine::client`]): they share the slots,
/// and what several of them want on the same terms is built once.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: LocalStore,
    slots: Arc<SlotsOfClient>,
    profile: Arc<Profile>,
    events: EventSender,
    /// What the client was warned of by a question, which the request that follows need not tell again.
    warned: Arc<Mutex<HashSet<String>>>,
}

impl Engine {
    /// Starts an engine for a store, and the launcher process that its builders come from.
    ///
    /// The program's `main` must begin with [`kiln_sandbox::run_if_launcher`], which gets [`crate::run_builtin`]. `environment`
    /// is what `impureEnvVars` may show to builders of fixed outputs; whoever embeds the engine decides what that is.
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
        let bytes = |(name, value): (OsString, OsString)| (name.into_vec(), value.into_vec());
        let environment: BTreeMap<_, _> = environment.into_iter().map(bytes).collect();
        let shared = Arc::new(Shared::new(launcher, store, settings, environment, events.clone())?);
        shared.tidier.serve(&shared);
        let profile = shared.profile(settings, &events)?;
        // Who was killed left directories behind; that they stay is no reason not to build.
        if let Err(error) = shared.build_directories.remove_leftovers() {
            events.warn(format!("cannot remove what builds of an engine that was killed have left: {error}"));
        }
        let (store, slots) = (shared.store.clone(), shared.slot_pool.owner());
        Ok(Self { shared, store, slots, profile, events, warned: Arc::default() })
    }

    /// The same engine for another client: with its settings, telling its listener what happens for it, and with temporary
    /// roots of its own, which last as long as the answer and its clones.
    ///
    /// Of the settings, those of the machine stay the ones that the engine was started with: the store, build users,
    /// directories, slots for substitutions. `max-jobs` limits the builds that run for this client, and while it is there
    /// at least so many builds may run in all. Clients of the same `user` share that user's part of the slots. `events`
    /// should come from [`EventSender::with_sink`] of what the engine was started with, so that the names of activities
    /// differ. Reads the keys for signing and the files of machines, if the settings are others.
    ///
    /// # Errors
    /// The keys for signing cannot be read.
    pub fn client(
        &self,
        settings: &Settings,
        events: EventSender,
        user: UserId,
    ) -> Result<Self, EngineError> {
        let profile = self.shared.profile(settings, &events)?;
        let slots = self.shared.slot_pool.client(Client { user, builds: slots_for_builds(settings) });
        let store = self.store.with_own_roots();
        Ok(Self { shared: Arc::clone(&self.shared), store, slots, profile, events, warned: Arc::default() })
    }

    /// The same client with other settings.
    ///
    /// # Errors
    /// As [`Engine::client`].
    pub fn with_settings(&self, settings: &Settings, user: UserId) -> Result<Self, EngineError> {
        let client = self.client(settings, self.events.clone(), user)?;
        Ok(Self { store: self.store.clone(), ..client })
    }

    /// Whom this client is told by what happens for it.
    pub(crate) fn events(&self) -> &EventSender {
        &self.events
    }

    /// The store, with the temporary roots of this client.
    pub fn store(&self) -> &LocalStore {
        &self.store
    }

    /// Says how much the build hook is to tell, which can't be told less afterwards. One that runs already goes on as it does.
    pub fn set_verbosity(&self, verbosity: Verbosity) {
        self.profile.build_hook.set_verbosity(verbosity);
    }

    /// Waits until nothing is left of builds that have ended or were given up: no process, no directory, no lock.
    pub async fn idle(&self) {
        // The sender is the engine's own, so that the channel is not closed.
        let _ = self.shared.untidy.subscribe().wait_for(|count| *count == 0).await;
        self.shared.tidier.tidy(&self.shared).await;
    }

    /// What a request works with, and who is told what happens in it, as long as it lives.
    pub(crate) fn request(&self) -> (Arc<Core>, Arc<Listener>) {
        let warned = std::mem::take(&mut *self.warned.lock().unwrap_or_else(PoisonError::into_inner));
        let listener = Listener::new(&self.events, warned);
        let core = self.core();
        core.audience.add(&listener);
        (core, listener)
    }

    /// Warns the client, unless it was warned of the same matter since its last request.
    pub(crate) fn warn_of(&self, matter: &str, text: &str) {
        let is_news = self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(matter.to_owned());
        if is_news {
            self.events.warn(text);
        }
    }

    /// What a question works with, which begins nothing.
    pub(crate) fn core(&self) -> Arc<Core> {
        let audience = Audience::new(&self.events);
        let (slots, profile) = (Arc::clone(&self.slots), Arc::clone(&self.profile));
        Arc::new(Core::new(Arc::clone(&self.shared), self.store.clone(), slots, profile, audience))
    }
}
