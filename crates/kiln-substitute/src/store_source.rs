//! Another local store as a substituter.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kiln_events::EventSender;
use kiln_narinfo::{PathInfo, Realisation, RealisationId};
use kiln_settings::{LocalStoreUrl, StoreUrl};
use kiln_store::{ByteStream, LocalStore, StoreConfig, blocking};
use kiln_store_path::{StoreDir, StorePath};
use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;

use crate::error::{Error, FetchFault, LookupFault, Result, SubstituterFault};
use crate::http_cache::Turn;
use crate::pipe::{PipeWriter, pipe};
use crate::source::{Contents, Offer, Properties, Substituter};

/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;

/// A store on this machine's disk that paths are copied from.
pub struct StoreSource {
    name: String,
    url: LocalStoreUrl,
    store_dir: StoreDir,
    store: OnceCell<LocalStore>,
}

impl StoreSource {
    /// The store of a URL, for stores at `store_dir`. It is opened when it is asked first.
    #[must_use]
    pub fn new(url: LocalStoreUrl, store_dir: StoreDir) -> Self {
        let name = StoreUrl::Local(url.clone()).render();
        Self { name: kiln_events::quoted(name.as_bytes()), url, store_dir, store: OnceCell::new() }
    }

    /// A store that is open already.
    #[must_use]
    pub fn of(store: LocalStore, url: LocalStoreUrl) -> Self {
        let source = Self::new(url, store.store_dir().clone());
        Self { store: OnceCell::new_with(Some(store)), ..source }
    }

    async fn opened(&self) -> Result<&LocalStore, SubstituterFault> {
        self.store.get_or_try_init(|| self.open()).await
    }

    async fn open(&self) -> Result<LocalStore, SubstituterFault> {
        // It says all itself: the variables of the environment are about the store that gets the paths.
        let mut config = StoreConfig::from_url(&self.url, &|_| None)?;
        let found = &config.locations.store_dir;
        if *found != self.store_dir {
            let (found, expected) = (found.to_string(), self.store_dir.to_string());
            return Err(SubstituterFault::OtherStore { found, expected });
        }
        let database: PathBuf = config.locations.state_dir.join("db").join("db.sqlite");
        // Opening a store makes what is missing of it, and nobody wants that of one to copy from.
        use rustix::fs::{Access, access};
        let (exists, is_writable) =
            blocking(move || (database.exists(), access(&database, Access::WRITE_OK).is_ok())).await;
        if !exists {
            return Err(SubstituterFault::NotACache("there is no store"));
        }
        config.read_only |= !is_writable;
        Ok(LocalStore::open(config, Arc::new(|_| {})).await?)
    }

    /// The store, once it has been opened by [`Substituter::properties`].
    fn store(&self) -> Result<&LocalStore, kiln_store::Error> {
        let unopened = || kiln_store::Error::Configuration("the store was not opened".to_owned());
        self.store.get().ok_or_else(unopened)
    }

    async fn look_up(&self, path: &StorePath) -> Result<Option<Offer>, LookupFault> {
        let info = self.store()?.path_info(path).await?;
        // That the other store has built it does not make this one believe it, and the time is this one's.
        let stated =
            |info: Arc<PathInfo>| PathInfo { ultimate: false, registration_time: 0, ..(*info).clone() };
        Ok(info.map(|info| Offer { info: Arc::new(stated(info)), file: None }))
    }

    async fn begin(&self, offer: &Offer) -> Result<Contents<'static>, FetchFault> {
        let stream = match self.store()?.read_nar(&offer.info.path).await {
            Err(error) if error.is_not_valid() => return Err(FetchFault::Gone),
            stream => stream?,
        };
        let (writer, reader) = pipe();
        let (substituter, path) = (self.name.clone(), self.store_dir.print(&offer.info.path));
        let feeding = async move {
            feed(stream, writer).await.map_err(|error| Error::fetch(&substituter, path, error))
        };
        Ok(Contents { reader: Box::new(reader), feeding: feeding.boxed() })
    }
}

async fn feed(mut stream: ByteStream, writer: PipeWriter) -> std::io::Result<()> {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        if stream.read_buf(&mut chunk).await? == 0 {
            writer.finish().await;
            return Ok(());
        }
        if !writer.send(Bytes::from(chunk)).await {
            return Ok(());
        }
    }
}

impl Substituter for StoreSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_trusted(&self) -> bool {
        self.url.trusted
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties>> {
        async {
            self.opened().await.map_err(|fault| Error::substituter(&self.name, fault))?;
            let priority =
                self.url.priority.map_or(0, |priority| i64::try_from(priority).unwrap_or(i64::MAX));
            Ok(Properties { priority, want_mass_query: true, date: None })
        }
        .boxed()
    }

    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Offer>>> {
        async {
            self.look_up(path)
                .await
                .map_err(|fault| Error::lookup(&self.name, self.store_dir.print(path), fault))
        }
        .boxed()
    }

    fn realisation<'a>(&'a self, id: &'a RealisationId) -> BoxFuture<'a, Result<Option<Realisation>>> {
        async {
            let failed = |fault: kiln_store::Error| Error::realisation(&self.name, id, fault);
            let store = self.store().map_err(failed)?;
            if !store.config().realisations {
                return Ok(None);
            }
            store.realisation(id).await.map_err(failed)
        }
        .boxed()
    }

    fn contents<'a>(
        &'a self,
        offer: &'a Offer,
        _: Option<Turn<'a>>,
        _: &'a EventSender,
    ) -> BoxFuture<'a, Result<Contents<'a>>> {
        async {
            self.begin(offer)
                .await
                .map_err(|fault| Error::fetch(&self.name, self.store_dir.print(&offer.info.path), fault))
        }
        .boxed()
    }
}
