//! A run that works with a store: settings, the opened store, and a runtime to wait in.

use std::future::Future;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use kiln_build::Engine;
use kiln_events::{EventSender, Verbosity};
use kiln_narinfo::PathInfo;
use kiln_remote::RemoteStore;
use kiln_settings::{Settings, StoreUrl};
use kiln_store::{LocalStore, Notice, OnNotice, StoreConfig};
use kiln_store_path::{StoreDir, StorePath};
use tokio::runtime::{Handle, Runtime};

use crate::any_store::{AnyStore, StoreView};
use crate::builder::Builder;
use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::json_log::JsonLog;
use crate::{daemon_store, store_config};

/// What commands that need a store work with: a local one, or any.
pub(crate) struct Session<S = LocalStore> {
    /// The store.
    pub(crate) store: S,
    work: Work,
}

/// What commands that wait for something work with, whatever store it is about.
pub(crate) struct Work {
    /// The settings of this run.
    pub(crate) settings: Settings,
    /// Where to tell what happens.
    pub(crate) events: EventSender,
    json_log: Option<Arc<JsonLog>>,
    handle: Handle,
    /// There until the end.
    runtime: Option<Runtime>,
}

impl Work {
    /// With these settings.
    pub(crate) fn begin(invocation: &Invocation<'_>, settings: Settings) -> Result<Self, Failure> {
        let json_log = settings.json_log_path.as_deref().map(json_log).transpose()?;
        let events = invocation.terminal.events_also_to(json_log.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .doing(|| "starting the runtime")?;
        Ok(Self { settings, events, json_log, handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Opens a local store.
    pub(crate) fn open_store(&self, config: StoreConfig) -> Result<LocalStore, Failure> {
        Ok(self.wait(LocalStore::open(config, notices(&self.events)))?)
    }

    /// An engine for a local store, which starts the process that builders come from.
    pub(crate) fn engine(&self, store: &LocalStore, invocation: &Invocation<'_>) -> Result<Engine, Failure> {
        let _context = self.handle.enter();
        let variables = invocation.environment.variables();
        let engine = Engine::start(store.clone(), &self.settings, variables, self.events.clone())?;
        engine.set_verbosity(invocation.terminal.verbosity);
        Ok(engine)
    }

    /// Waits for something.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

impl<S> Deref for Session<S> {
    type Target = Work;

    fn deref(&self) -> &Work {
        &self.work
    }
}

impl Session {
    /// Reads the settings and opens the store that they name.
    pub(crate) fn open(invocation: &Invocation<'_>) -> Result<Self, Failure> {
        Self::of_settings(invocation, invocation.settings()?)
    }

    /// Opens the store that settings name which have been read already: reading them again would tell their warnings again.
    pub(crate) fn of_settings(invocation: &Invocation<'_>, settings: Settings) -> Result<Self, Failure> {
        let config = store_config::from_settings(&settings, invocation.environment)?;
        Self::open_configured(invocation, settings, config)
    }

    fn open_configured(
        invocation: &Invocation<'_>,
        settings: Settings,
        config: StoreConfig,
    ) -> Result<Self, Failure> {
        let work = Work::begin(invocation, settings)?;
        let store = work.open_store(config).map_err(|failure| {
            // The machine's store is root's.
            if work.settings.store == StoreUrl::Auto && !rustix::process::geteuid().is_root() {
                failure.with_hint("'--store DIR' works on a store of your own below a directory")
            } else {
                failure
            }
        })?;
        Ok(Self { store, work })
    }

    /// The engine, which starts the process that builders come from.
    pub(crate) fn engine(&self, invocation: &Invocation<'_>) -> Result<Engine, Failure> {
        self.work.engine(&self.store, invocation)
    }
}

impl Session<AnyStore> {
    /// Reads the settings and opens the store that they name, or has what they name as its daemon at hand.
    pub(crate) fn open_any(invocation: &Invocation<'_>) -> Result<Self, Failure> {
        let configuration = invocation.configuration()?;
        let overrides = configuration.overrides();
        let settings = configuration.into_settings();
        let Some(address) = daemon_store::address(&settings.store, invocation.environment)? else {
            let config = store_config::from_settings(&settings, invocation.environment)?;
            let Session { store, work } = Session::open_configured(invocation, settings, config)?;
            return Ok(Self { store: AnyStore::Local(store), work });
        };
        let work = Work::begin(invocation, settings)?;
        let terminal = invocation.terminal;
        let shows_logs = terminal.format.shows_logs();
        let options = daemon_store::options(&work.settings, overrides, terminal.verbosity, shows_logs);
        let store = AnyStore::Daemon(RemoteStore::new(address, options, work.events.clone()));
        Ok(Self { store, work })
    }

    /// Who builds: for a local store an engine, which starts the process that builders come from.
    pub(crate) fn builder(&self, invocation: &Invocation<'_>) -> Result<Builder, Failure> {
        match &self.store {
            AnyStore::Daemon(daemon) => Ok(Builder::Daemon(daemon.clone())),
            AnyStore::Local(store) => Ok(Builder::Engine(self.work.engine(store, invocation)?)),
        }
    }
}

impl<S: StoreView> Session<S> {
    /// The directory that store paths are in by name.
    pub(crate) fn store_dir(&self) -> &StoreDir {
        self.store.store_dir()
    }

    /// What the store knows about a path, which must be valid.
    pub(crate) fn path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>, Failure> {
        self.wait(self.store.valid_path_info(path))
    }

    /// A full path as text.
    pub(crate) fn print(&self, path: &StorePath) -> String {
        self.store_dir().print(path)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(log) = &self.json_log {
            log.finish();
        }
        // Threads that wait, for a lock of another process say, are not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn json_log(path: &str) -> Result<Arc<JsonLog>, Failure> {
    let opened =
        JsonLog::open(Path::new(path)).doing(|| format!("opening '{path}' (the setting 'json-log-path')"));
    opened.map(Arc::new)
}

/// What the store says while somebody waits for it.
fn notices(events: &EventSender) -> OnNotice {
    let events = events.clone();
    Arc::new(move |notice| match notice {
        Notice::WaitingForBigLock => {
            events.message(Verbosity::Notice, "waiting for the big Nix store lock...")
        }
        Notice::Busy(waited) => {
            events.warn(format!(
                "the store's database has been busy for {} s; another process uses it",
                waited.as_secs()
            ));
        }
        Notice::Migrating { from, to } => {
            events.message(
                Verbosity::Notice,
                format!("upgrading the store's database from schema {from} to {to}..."),
            );
        }
    })
}
