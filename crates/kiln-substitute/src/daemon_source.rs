//! A store behind a daemon as a substituter.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kiln_events::{ActivityId, EventSender, Verbosity};
use kiln_narinfo::PathInfo;
use kiln_protocol::worker::request::SetOptions;
use kiln_remote::{DaemonAddress, NarStream, RemoteStore};
use kiln_schedule::BreakerPolicy;
use kiln_store_path::{StoreDir, StorePath};

use crate::error::{Error, FetchFault, LookupFault, Resting, Result, SubstituterFault};
use crate::health::Health;
use crate::http_cache::Turn;
use crate::pipe::{PipeWriter, pipe};
use crate::source::{Contents, Offer, Properties, Substituter};

/// How long a daemon may take to tell of a path, which it has in its database.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that paths are copied from through its daemon.
pub struct DaemonSource {
    store: RemoteStore,
    store_dir: StoreDir,
    health: Arc<Health>,
}

impl DaemonSource {
    /// The store of a daemon, for stores at `store_dir`. It is connected to when it is asked first.
    #[must_use]
    pub fn new(address: DaemonAddress, store_dir: StoreDir) -> Self {
        // What a source thinks of by itself is of no interest; and it shall not substitute for us.
        let options = SetOptions {
            verbosity: u64::from(Verbosity::Error.number()),
            use_substitutes: false,
            ..SetOptions::default()
        };
        Self::of(RemoteStore::new(address, options, EventSender::null()), store_dir)
    }

    /// A store that is in use already.
    #[must_use]
    pub fn of(store: RemoteStore, store_dir: StoreDir) -> Self {
        let store = store.with_patience(PATIENCE);
        Self { store, store_dir, health: Arc::new(Health::new(BreakerPolicy::default())) }
    }

    /// Waits for an answer, and remembers how the daemon fares.
    async fn asked<T, F>(&self, asking: impl Future<Output = kiln_remote::Result<T>>) -> Result<T, F>
    where
        F: From<Resting> + From<kiln_remote::Error>,
    {
        let leave = self.health.ask()?;
        let answer = asking.await;
        match &answer {
            Err(error) if error.refusal().is_none() => leave.faulty(error.to_string()),
            // It is there, and has said something.
            _ => leave.answered(),
        }
        Ok(answer?)
    }

    async fn ask_properties(&self) -> Result<Properties, SubstituterFault> {
        let found = self.store.store_dir();
        if *found != self.store_dir {
            let (found, expected) = (found.to_string(), self.store_dir.to_string());
            return Err(SubstituterFault::OtherStore { found, expected });
        }
        self.asked::<_, SubstituterFault>(self.store.greeting()).await?;
        Ok(Properties { priority: self.store.address().priority, want_mass_query: true, date: None })
    }

    async fn look_up(&self, path: &StorePath) -> Result<Option<Offer>, LookupFault> {
        let info = self.asked::<_, LookupFault>(self.store.path_info(path)).await?;
        // That the other store has built it does not make this one believe it, and the time is this one's.
        let stated =
            |info: Arc<PathInfo>| PathInfo { ultimate: false, registration_time: 0, ..(*info).clone() };
        Ok(info.map(|info| Offer { info: Arc::new(stated(info)), file: None }))
    }

    async fn begin(&self, offer: &Offer, events: &EventSender) -> Result<Contents<'static>, FetchFault> {
        let store = self.store.telling(events.clone(), ActivityId::NONE);
        let stream = match store.nar(&offer.info.path, offer.info.nar_size).await {
            // Somebody may have collected it since it was offered.
            Err(error) if error.refusal().is_some() && !store.is_valid(&offer.info.path).await? => {
                return Err(FetchFault::Gone);
            }
            stream => stream?,
        };
        let (writer, reader) = pipe();
        let (substituter, path) = (self.name().to_owned(), self.store_dir.print(&offer.info.path));
        let feeding = async move {
            feed(stream, writer).await.map_err(|error| Error::fetch(&substituter, path, error))
        };
        Ok(Contents { reader: Box::new(reader), feeding: feeding.boxed() })
    }
}

async fn feed(mut stream: NarStream, writer: PipeWriter) -> kiln_remote::Result<()> {
    while let Some(chunk) = stream.next().await? {
        if !writer.send(chunk).await {
            return Ok(());
        }
    }
    writer.finish().await;
    Ok(())
}

impl Substituter for DaemonSource {
    fn name(&self) -> &str {
        self.store.name()
    }

    fn is_trusted(&self) -> bool {
        self.store.address().is_trusted
    }

    fn health(&self) -> Option<&Arc<Health>> {
        Some(&self.health)
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties>> {
        async { self.ask_properties().await.map_err(|fault| Error::substituter(self.name(), fault)) }.boxed()
    }

    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Offer>>> {
        async {
            self.look_up(path)
                .await
                .map_err(|fault| Error::lookup(self.name(), self.store_dir.print(path), fault))
        }
        .boxed()
    }

    fn contents<'a>(
        &'a self,
        offer: &'a Offer,
        _: Option<Turn<'a>>,
        events: &'a EventSender,
    ) -> BoxFuture<'a, Result<Contents<'a>>> {
        async {
            self.begin(offer, events)
                .await
                .map_err(|fault| Error::fetch(self.name(), self.store_dir.print(&offer.info.path), fault))
        }
        .boxed()
    }
}
