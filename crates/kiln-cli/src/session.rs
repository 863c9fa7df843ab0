//! A run that works with a store: settings, the opened store, and a runtime to wait in.

use std::future::Future;
use std::sync::Arc;

use kiln_build::Engine;
use kiln_events::{EventSender, Verbosity};
use kiln_narinfo::PathInfo;
use kiln_settings::Settings;
use kiln_store::{LocalStore, Notice, OnNotice};
use kiln_store_path::{StoreDir, StorePath};
use tokio::runtime::Runtime;

use crate::failure::{Failure, While};
use crate::invocation::Invocation;

/// What commands that need a store work with.
pub(crate) struct Session {
    // Before the runtime, so that what still runs for the store ends first.
    /// The store.
    pub(crate) store: LocalStore,
    /// The settings of this run.
    pub(crate) settings: Settings,
    /// Where to tell what happens.
    pub(crate) events: EventSender,
    runtime: Runtime,
}

impl Session {
    /// Reads the settings and opens the store that they name.
    pub(crate) fn open(invocation: &Invocation<'_>) -> Result<Self, Failure> {
        let events = invocation.terminal.events.clone();
        let (settings, config) = invocation.store_config()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .doing(|| "starting the runtime")?;
        let store = runtime.block_on(LocalStore::open(config, notices(&events)))?;
        Ok(Self { store, settings, events, runtime })
    }

    /// Waits for something.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The engine, which starts the process that builders come from.
    pub(crate) fn engine(&self, invocation: &Invocation<'_>) -> Result<Engine, Failure> {
        let _context = self.runtime.enter();
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
