//! The store that is served, and the engine that works on it.
//!
//! Somebody may delete the store and make it anew while the daemon runs: installers and tests do. What is open then is a
//! store that nobody sees any more. So each new connection looks whether the database is still the same file.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_build::Engine;
use kiln_events::{EventSender, Verbosity};
use kiln_settings::Settings;
use kiln_store::{LocalStore, Notice, OnNotice, StoreConfig, blocking};
use tokio::sync::Mutex;

use crate::error::Error;

/// Opens the store, and opens it again when it is another one.
pub(crate) struct ServedStore {
    config: StoreConfig,
    settings: Arc<Settings>,
    environment: Vec<(OsString, OsString)>,
    events: EventSender,
    opened: Mutex<Option<Opened>>,
}

struct Opened {
    engine: Engine,
    identity: Identity,
}

/// Device, inode and time of birth of the database and of the directory of the store's files: inodes are used again.
type Identity = [Option<(u64, u64, Option<std::time::SystemTime>)>; 2];

impl ServedStore {
    pub(crate) fn new(
        config: StoreConfig,
        settings: Arc<Settings>,
        environment: Vec<(OsString, OsString)>,
        events: EventSender,
    ) -> Self {
        Self { config, settings, environment, events, opened: Mutex::new(None) }
    }

    /// The engine on the store as it is now.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub(crate) async fn engine(&self) -> Result<Engine, Error> {
        let mut opened = self.opened.lock().await;
        let places = self.places();
        let now = blocking(move || identify(&places)).await;
        if let Some(opened) = &*opened
            && opened.identity == now
        {
            return Ok(opened.engine.clone());
        }
        if opened.take().is_some() {
            self.events.message(Verbosity::Notice, "the store has been replaced; opening it again");
        }
        let store = LocalStore::open(self.config.clone(), notices(&self.events)).await?;
        let engine =
            Engine::start(store, &self.settings, self.environment.iter().cloned(), self.events.clone())?;
        let places = self.places();
        let identity = blocking(move || identify(&places)).await;
        *opened = Some(Opened { engine: engine.clone(), identity });
        Ok(engine)
    }

    /// The engine, if the store has been opened, for the end.
    pub(crate) async fn close(&self) -> Option<Engine> {
        self.opened.lock().await.take().map(|opened| opened.engine)
    }

    fn places(&self) -> [PathBuf; 2] {
        let locations = &self.config.locations;
        [locations.state_dir.join("db").join("db.sqlite"), locations.real_dir.clone()]
    }
}

fn identify(places: &[PathBuf; 2]) -> Identity {
    places.each_ref().map(|place| {
        let metadata = fs::metadata(place).ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
    })
}

/// What the store says while somebody waits for it, for the daemon's own log.
fn notices(events: &EventSender) -> OnNotice {
    let events = events.clone();
    Arc::new(move |notice| match notice {
        Notice::WaitingForBigLock => {
            events.message(Verbosity::Notice, "waiting for the big Nix store lock...")
        }
        Notice::Busy(waited) => {
            events.warn(format!("the store's database has been busy for {} s", waited.as_secs()));
        }
        Notice::Migrating { from, to } => {
            let text = format!("upgrading the store's database from schema {from} to {to}...");
            events.message(Verbosity::Notice, text);
        }
    })
}
