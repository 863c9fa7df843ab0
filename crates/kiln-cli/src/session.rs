//! A run that works with a store: settings, the opened store, and a runtime to wait in.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use kiln_build::Engine;
use kiln_events::{EventSender, Verbosity};
use kiln_narinfo::PathInfo;
use kiln_settings::{Settings, StoreUrl};
use kiln_store::{LocalStore, Notice, OnNotice};
use kiln_store_path::{StoreDir, StorePath};
use tokio::runtime::{Handle, Runtime};

use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::json_log::JsonLog;

/// What commands that need a store work with.
pub(crate) struct Session {
    /// The store.
    pub(crate) store: LocalStore,
    /// The settings of this run.
    pub(crate) settings: Settings,
    /// Where to tell what happens.
    pub(crate) events: EventSender,
    json_log: Option<Arc<JsonLog>>,
    handle: Handle,
    /// There until the end.
    runtime: Option<Runtime>,
}

impl Session {
    /// Reads the settings and opens the store that they name.
    pub(crate) fn open(invocation: &Invocation<'_>) -> Result<Self, Failure> {
        let (settings, config) = invocation.store_config()?;
        let json_log = settings.json_log_path.as_deref().map(json_log).transpose()?;
        let events = invocation.terminal.events_also_to(json_log.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .doing(|| "starting the runtime")?;
        let opened = runtime.block_on(LocalStore::open(config, notices(&events)));
        let store = opened.map_err(|error| {
            let failure = Failure::from(error);
            // The machine's store is root's.
            if settings.store == StoreUrl::Auto && !rustix::process::geteuid().is_root() {
                failure.with_hint("'--store DIR' works on a store of your own below a directory")
            } else {
                failure
            }
        })?;
        Ok(Self {
            store,
            settings,
            events,
            json_log,
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Waits for something.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }

    /// The engine, which starts the process that builders come from.
    pub(crate) fn engine(&self, invocation: &Invocation<'_>) -> Result<Engine, Failure> {
        let _context = self.handle.enter();
        let variables = invocation.environment.variables();
        Ok(Engine::start(self.store.clone(), &self.settings, variables, self.events.clone())?)
    }

    /// The directory that store paths are in by name.
    pub(crate) fn store_dir(&self) -> &StoreDir {
        self.store.store_dir()
    }

    /// What the store knows about a path, which must be valid.
    pub(crate) fn path_info(&self, path: &StorePath) -> Result<Arc<PathInfo>, Failure> {
        Ok(self.wait(self.store.valid_path_info(path))?)
    }

    /// A full path as text.
    pub(crate) fn print(&self, path: &StorePath) -> String {
        self.store_dir().print(path)
    }
}

impl Drop for Session {
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
