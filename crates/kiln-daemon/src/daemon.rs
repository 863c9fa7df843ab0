//! The daemon as a whole: accepts clients and ends in good order.

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kiln_events::{EventSender, Verbosity};
use kiln_settings::Settings;
use kiln_store::{StoreConfig, blocking};
use kiln_sys::heap;
use kiln_sys::listening::Found;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

use crate::error::Error;
use crate::listener::Listener;
use crate::peer::{Peer, Users};
use crate::served_store::ServedStore;
use crate::session::{Connection, Session};
use crate::trust::TrustRule;
use crate::watch::{self, Watch, WatchListener};

/// How long to wait before accepting again when it failed, for a descriptor for instance.
const RETRY: Duration = Duration::from_millis(100);

/// So often it is looked whether clients still find the socket.
const LOOK: Duration = Duration::from_secs(5);

/// So often what was freed goes back to the system. What a peak of the load has left would stay otherwise.
const GIVING_BACK: Duration = Duration::from_secs(20);

/// How long the builds of clients that are cut off may take to be tidied up.
const TIDYING: Duration = Duration::from_secs(10);

/// All that a daemon is made of.
pub struct DaemonConfig {
    /// Its own settings, from which those of each connection begin.
    pub settings: Settings,
    /// The store that it serves.
    pub store: StoreConfig,
    /// What `impureEnvVars` may show to builders of fixed outputs.
    pub environment: Vec<(OsString, OsString)>,
    /// Whom it trusts.
    pub trust: TrustRule,
    /// Where those connect who watch over it, if anybody does. It is listened to while clients are served.
    pub watch: Option<WatchListener>,
}

/// A daemon that serves one store.
pub struct Daemon {
    shared: Arc<Shared>,
    watch: Option<WatchListener>,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) store: ServedStore,
    pub(crate) cpus: u64,
    /// The daemon's own log.
    pub(crate) events: EventSender,
    /// There if anybody watches.
    pub(crate) watch: Option<Arc<Watch>>,
    trust: TrustRule,
    users: Arc<Users>,
}

impl Daemon {
    /// Opens the store and starts the engine. Must be called within the runtime; the program's `main` must begin as
    /// [`kiln_build::Engine::start`] says. `events` is the daemon's own log.
    ///
    /// # Errors
    /// The store cannot be opened, or the engine not be started.
    pub async fn start(config: DaemonConfig, events: EventSender) -> Result<Self, Error> {
        let DaemonConfig { settings, store, environment, trust, watch: listener } = config;
        let settings = Arc::new(settings);
        let store = ServedStore::new(store, Arc::clone(&settings), environment, events.clone());
        // Before descriptors are many: builders inherit the limit.
        store.engine().await?;
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let watch = listener.as_ref().map(|_| Arc::new(Watch::new()));
        let shared = Shared { settings, store, cpus, events, watch, trust, users: Users::new() };
        Ok(Self { shared: Arc::new(shared), watch: listener })
    }

    /// Serves clients until `end` is there. Then all connections are closed, and what nobody wants any more is ended and
    /// tidied up.
    pub async fn serve(mut self, mut listener: Listener, end: impl Future<Output = ()>) {
        let watching = self.watch.take().map(|listener| self.begin_watching(listener));
        let mut sessions = JoinSet::new();
        let (mut look, mut giving_back) = (every(LOOK), every(GIVING_BACK));
        let mut known = Found::InPlace;
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                Some(ended) = sessions.join_next() => self.note(ended),
                _ = look.tick() => self.look_after(&mut listener, &mut known).await,
                _ = giving_back.tick() => drop(tokio::spawn(blocking(heap::give_back))),
                accepted = listener.accept() => match accepted {
                    Ok(stream) => drop(sessions.spawn(serve_client(Arc::clone(&self.shared), stream))),
                    Err(error) => {
                        self.shared.events.warn(format!("cannot accept a connection: {error}"));
                        tokio::time::sleep(RETRY).await;
                    }
                },
            }
        }
        drop(listener);
        sessions.shutdown().await;
        self.tidy().await;
        if let Some((task, end)) = watching {
            // It is gone if it has panicked.
            let _ = end.send(());
            let _ = task.await;
        }
    }

    /// Answers those who watch, until the answer is used.
    fn begin_watching(&self, listener: WatchListener) -> (JoinHandle<()>, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let places = listener.places().join(", ");
        self.shared.events.message(Verbosity::Notice, format!("metrics, health and status are at {places}"));
        let (shared, watch) = (Arc::clone(&self.shared), self.shared.watch.clone());
        let task = tokio::spawn(async move {
            if let Some(watch) = watch {
                watch::serve(shared, watch, listener, async move { drop(ended.await) }).await;
            }
        });
        (task, end)
    }

    /// Serves the one client at standard input and output, to its end.
    ///
    /// # Errors
    /// They are closed.
    pub async fn serve_stdio(&self, end: impl Future<Output = ()>) -> Result<(), Error> {
        let connection = Connection::of_stdio().map_err(Error::Stdio)?;
        let peer = Peer::on_stdio(self.shared.trust);
        let session = serve_peer(Arc::clone(&self.shared), peer, connection);
        tokio::select! {
            () = session => {}
            () = end => {}
        }
        self.tidy().await;
        Ok(())
    }

    /// Says what has become of the socket, whenever that is something new.
    async fn look_after(&self, listener: &mut Listener, known: &mut Found) {
        let found = listener.look_after().await;
        let place = listener.path().unwrap_or(Path::new("")).display();
        match &found {
            Ok(found) if found == known => {}
            Ok(Found::InPlace) => {}
            Ok(Found::Gone) => {
                self.shared.events.warn(format!("somebody has deleted the socket '{place}'; it has been made again"));
            }
            Ok(Found::Replaced) => self.shared.events.warn(format!(
                "somebody has put another socket in the place of '{place}'; clients that connect there are not served here"
            )),
            // It is tried again.
            Err(error) => self.shared.events.warn(error.to_string()),
        }
        if let Some(watch) = &self.shared.watch {
            watch.set_replaced(matches!(found, Ok(Found::Replaced)));
        }
        *known = match found {
            Ok(Found::Replaced) => Found::Replaced,
            Ok(Found::InPlace | Found::Gone) | Err(_) => Found::InPlace,
        };
    }

    fn note(&self, ended: Result<(), tokio::task::JoinError>) {
        if ended.is_err_and(|error| error.is_panic()) {
            self.shared.events.warn("a connection ended because of a bug in Kiln");
        }
    }

    async fn tidy(&self) {
        if let Some(engine) = self.shared.store.close().await
            && tokio::time::timeout(TIDYING, engine.idle()).await.is_err()
        {
            self.shared.events.warn("builds that were cut off take long to end; not waiting for them");
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn serve_client(shared: Arc<Shared>, stream: UnixStream) {
    match Peer::identify(&stream, &shared.settings, shared.trust, &shared.users).await {
        Ok(peer) => {
            shared.events.message(Verbosity::Info, format!("accepted connection from {}", peer.description));
            match Connection::of_socket(stream) {
                Ok(connection) => serve_peer(shared, peer, connection).await,
                Err(error) => shared.events.warn(format!("error processing connection: {error}")),
            }
        }
        Err(refusal) => {
            if let Some(watch) = &shared.watch {
                watch.refused();
            }
            shared.events.warn(format!("error processing connection: {refusal}"));
        }
    }
}

async fn serve_peer(shared: Arc<Shared>, peer: Peer, connection: Connection) {
    let description = peer.description.clone();
    let events = shared.events.clone();
    if let Err(error) = Session::run(shared, peer, connection).await {
        events.message(Verbosity::Info, format!("error processing connection from {description}: {error}"));
    }
}
