//! `--substitute-on-destination`: what the store that gets the paths has substituters for need not be copied.

use kiln_build::{BuildMode, BuildRequest, Engine};
use kiln_cache::Destination;
use kiln_events::EventSender;
use kiln_remote::RemoteStore;
use kiln_store_path::{DerivedPath, StorePath};

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Work;

/// What can substitute for a destination.
#[derive(Clone)]
pub(super) enum Substituting {
    /// An engine of this process, for a local store.
    Engine(Engine),
    /// The daemon itself.
    Daemon(RemoteStore),
}

impl Substituting {
    /// What can at this destination.
    pub(super) fn at(
        destination: &Destination,
        work: &Work,
        invocation: &Invocation<'_>,
    ) -> Result<Self, Failure> {
        match destination {
            Destination::Store(store) => Ok(Self::Engine(work.engine(store, invocation)?)),
            Destination::Daemon(daemon) => Ok(Self::Daemon(daemon.store().clone())),
            Destination::Cache(_) => Err(Failure::input(
                "'--substitute-on-destination' needs a store: a binary cache has no substituters",
            )),
        }
    }

    /// Gets `paths` from substituters as far as they have them. What they don't have is copied.
    pub(super) async fn substitute(self, paths: Vec<StorePath>, events: EventSender) {
        match self {
            Self::Engine(engine) => {
                let targets = paths.into_iter().map(DerivedPath::Opaque).collect();
                engine.build(BuildRequest { targets, mode: BuildMode::Normal, keep_going: true }).await;
            }
            Self::Daemon(daemon) => {
                if let Err(error) = daemon.valid_among(paths.into_iter().collect(), true).await {
                    events.warn(format!("nothing is substituted at '{}': {error}", daemon.name()));
                }
            }
        }
    }

    /// Waits until nothing is left of what was begun.
    pub(super) async fn idle(&self) {
        if let Self::Engine(engine) = self {
            engine.idle().await;
        }
    }
}
