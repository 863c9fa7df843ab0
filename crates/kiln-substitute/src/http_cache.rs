//! A binary cache at a server.

mod network;
mod server;
mod turns;

pub(crate) use network::Requests;
pub use network::{Network, Turn};
pub use server::CacheServer;

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kiln_events::{EventSender, quoted};
use kiln_http::{Coding, Download, DownloadError, Piece, SmallFile, decoder};
use kiln_narinfo::{CacheInfo, NarInfo, Realisation, RealisationId};
use kiln_schedule::BreakerPolicy;
use kiln_settings::BinaryCacheUrl;
use kiln_store::blocking;
use kiln_store_path::{StoreDir, StorePath};
use tokio::sync::OnceCell;
use url::Url;

use crate::error::{Error, FetchFault, LookupFault, Resting, Result, SubstituterFault};
use crate::health::{Health, Leave};
use crate::lookup_cache::{Known, LookupCache};
use crate::pipe::{PipeWriter, pipe};
use crate::realisations::realisation_file;
use crate::source::{Contents, NarFile, Offer, Properties, Substituter};
use crate::unpack::longest;

/// The largest narinfo that is read, in bytes: there is room for some 40,000 references.
pub(crate) const LARGEST_NARINFO: usize = 2 << 20;

/// Files of so many bytes and less are there as soon as the answer begins.
const SMALL: u64 = 64 << 10;

/// Whether a rest was ended by somebody is looked at if more than this is left of it.
const WORTH_A_LOOK: Duration = Duration::from_secs(2);

/// The largest realisation that is read, in bytes.
pub(crate) const LARGEST_REALISATION: usize = 1 << 20;

/// The largest `nix-cache-info` that is read, in bytes.
pub(crate) const LARGEST_CACHE_INFO: usize = 64 << 10;

/// A binary cache at a server.
pub struct HttpCache {
    settings: BinaryCacheUrl,
    store_dir: StoreDir,
    requests: Requests,
    known: LookupCache,
    health: Arc<Health>,
    properties: OnceCell<Properties>,
}

impl HttpCache {
    /// The cache at a server, for stores at `store_dir`. Nothing is asked yet.
    #[must_use]
    pub fn new(
        server: CacheServer,
        settings: BinaryCacheUrl,
        store_dir: StoreDir,
        network: &Arc<Network>,
        known: LookupCache,
    ) -> Self {
        Self {
            requests: Requests::new(network, server),
            health: Arc::new(Health::new(BreakerPolicy::default())),
            properties: OnceCell::new(),
            settings,
            store_dir,
            known,
        }
    }

    /// Where a file is whose name is given from the cache's own place.
    fn url(&self, name: &str) -> Result<Url, url::ParseError> {
        self.requests.server().base().join(name)
    }

    async fn ask_properties(&self) -> Result<Properties, SubstituterFault> {
        if let Some(properties) = self.known.properties(self.name(), &self.store_dir).await {
            return Ok(properties);
        }
        let url = self.url("nix-cache-info").unwrap_or_else(|_| self.requests.server().base().clone());
        let mut turn = self.requests.turn().await;
        let leave = self.leave().await?;
        let (date, text) = match self.requests.read(url.as_str(), LARGEST_CACHE_INFO).await {
            Ok(file) => (file.date, text(file, LARGEST_CACHE_INFO, leave).await?),
            Err(error) if matches!(error.status(), Some(404 | 410)) => {
                leave.answered();
                return Err(SubstituterFault::NotACache("it has no 'nix-cache-info'"));
            }
            Err(error) => {
                leave.failed(&error);
                return Err(error.into());
            }
        };
        turn.answered();
        if is_web_page(&text) {
            return Err(SubstituterFault::NotACache("it answers with a web page"));
        }
        let info = CacheInfo::parse(self.name(), &text)?;
        info.check_store_dir(self.name(), &self.store_dir)?;
        let properties = Properties { date, ..properties(&info) };
        self.known.set_properties(self.name(), &self.store_dir, properties).await;
        Ok(properties)
    }

    async fn ask_path_info(&self, path: &StorePath) -> Result<Option<Offer>, LookupFault> {
        match self.known.narinfo(self.name(), &self.store_dir, path).await {
            Some(Known::Absent) => return Ok(None),
            Some(Known::Present(narinfo)) => return Ok(Some((*narinfo).into())),
            None => {}
        }
        let file_name = format!("{}.narinfo", path.digest());
        let url = self.url(&file_name).unwrap_or_else(|_| self.requests.server().base().clone());
        let mut turn = self.requests.turn().await;
        let leave = self.leave().await?;
        let narinfo = match self.requests.read(url.as_str(), LARGEST_NARINFO).await {
            Ok(file) => Some(self.narinfo(file, &file_name, path, leave).await?),
            Err(error) if is_absence(&error) => {
                leave.answered();
                None
            }
            Err(error) => {
                leave.failed(&error);
                return Err(error.into());
            }
        };
        turn.answered();
        self.known.set_narinfo(self.name(), &self.store_dir, path, narinfo.clone()).await;
        Ok(narinfo.map(Offer::from))
    }

    async fn ask_realisation(&self, id: &RealisationId) -> Result<Option<Realisation>, LookupFault> {
        let file_name = realisation_file(id);
        let url = self.url(&file_name).unwrap_or_else(|_| self.requests.server().base().clone());
        let mut turn = self.requests.turn().await;
        let leave = self.leave().await?;
        let file = match self.requests.read(url.as_str(), LARGEST_REALISATION).await {
            Ok(file) => file,
            Err(error) if is_absence(&error) => {
                leave.answered();
                return Ok(None);
            }
            Err(error) => {
                leave.failed(&error);
                return Err(error.into());
            }
        };
        turn.answered();
        let text = decoded(file, LARGEST_REALISATION).await;
        let read = text.and_then(|text| Ok(Realisation::parse(id, &text)?));
        match &read {
            Ok(_) => leave.answered(),
            Err(fault) => leave.faulty(fault.to_string()),
        }
        read.map(Some)
    }

    /// Leave to ask the server, unless it rests and nobody has said that it may be asked all the same.
    async fn leave(&self) -> Result<Leave<'_>, Resting> {
        let refused = match self.health.ask() {
            Ok(leave) => return Ok(leave),
            Err(resting) => resting,
        };
        // While one probes, or is about to, the record says that the rest is over.
        if refused.rest < WORTH_A_LOOK
            || !self.health.is_recorded()
            || self.known.rests(self.name()).await != Some(false)
        {
            return Err(refused);
        }
        self.health.reset();
        self.health.ask()
    }

    /// Takes note of how the server fares, for those who look and for other processes.
    async fn record_health(&self) {
        if let Some(record) = self.health.take_record() {
            let is_recorded = self.known.set_health(self.name(), record).await;
            self.health.recorded(is_recorded);
        }
    }

    /// Reads a narinfo that has come.
    async fn narinfo(
        &self,
        file: SmallFile,
        file_name: &str,
        path: &StorePath,
        leave: Leave<'_>,
    ) -> Result<NarInfo, LookupFault> {
        let text = decoded(file, LARGEST_NARINFO).await;
        let read = text.and_then(|text| {
            if is_web_page(&text) {
                return Err(LookupFault::WebPage);
            }
            let narinfo = NarInfo::parse(&self.store_dir, file_name, &text)?;
            narinfo.check_is_about(file_name, path)?;
            Ok(narinfo)
        });
        match &read {
            Ok(_) => leave.answered(),
            Err(fault) => leave.faulty(fault.to_string()),
        }
        read
    }

    async fn begin<'a>(
        &'a self,
        offer: &'a Offer,
        turn: Option<Turn<'a>>,
        events: &'a EventSender,
    ) -> Result<Contents<'a>, FetchFault> {
        let file = offer.file.as_ref().ok_or(FetchFault::Gone)?;
        let url = self.nar_url(file)?;
        let mut turn = match turn {
            Some(turn) => turn,
            None => self.requests.large_turn().await,
        };
        let leave = self.leave().await?;
        let mut download =
            self.requests.body(url.as_str()).await?.kept().found_at(self.requests.server().base());
        let coding = match start(&mut download, events).await {
            Ok(coding) => coding,
            Err(error) if is_absence(&error) => {
                leave.answered();
                return Err(FetchFault::Gone);
            }
            Err(error) => {
                leave.failed(&error);
                return Err(error.into());
            }
        };
        // The rest may take long, and whoever else asks shall not wait for it to find the server well.
        turn.answered();
        leave.answered();
        let coding = coding.as_deref().map(Coding::of_header).transpose()?.flatten();
        let (writer, reader) = pipe();
        let reader: Box<dyn Read + Send> = match coding {
            None => Box::new(reader),
            // What is in a coding that comes to nothing could go on for ever.
            Some(coding) => {
                let most = longest(file, offer.info.nar_size).saturating_mul(2).saturating_add(64 << 10);
                Box::new(decoder(coding, BufReader::new(reader.take(most))))
            }
        };
        let path = self.store_dir.print(&offer.info.path);
        let feeding = async move {
            let fed = feed(&mut download, writer, events).await;
            // The connection is free for others from here on.
            drop(turn);
            fed.map_err(|error| {
                if let Ok(leave) = self.health.ask() {
                    leave.failed(&error);
                }
                Error::fetch(self.name(), path, error)
            })
        };
        Ok(Contents { reader, feeding: feeding.boxed() })
    }

    /// Where a file is.
    fn nar_url(&self, file: &NarFile) -> Result<Url, FetchFault> {
        let refused = |reason| FetchFault::Url { url: quoted(file.url.as_bytes()), reason };
        let url = self.url(&file.url).map_err(|_| refused("which is none"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("but only http and https are possible there"));
        }
        Ok(url)
    }
}

impl Substituter for HttpCache {
    fn name(&self) -> &str {
        self.requests.server().name()
    }

    fn is_trusted(&self) -> bool {
        self.settings.trusted
    }

    fn health(&self) -> Option<&Arc<Health>> {
        Some(&self.health)
    }

    fn file_url(&self, offer: &Offer) -> Option<String> {
        let mut url = self.nar_url(offer.file.as_ref()?).ok()?;
        let _ = url.set_password(None);
        Some(url.into())
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties>> {
        async {
            let asked = self.properties.get_or_try_init(|| self.ask_properties()).await;
            self.record_health().await;
            let found = asked.map_err(|fault| Error::substituter(self.name(), fault))?;
            Ok(with_settings(*found, &self.settings))
        }
        .boxed()
    }

    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Offer>>> {
        async {
            let asked = self.ask_path_info(path).await;
            self.record_health().await;
            asked.map_err(|fault| Error::lookup(self.name(), self.store_dir.print(path), fault))
        }
        .boxed()
    }

    fn realisation<'a>(&'a self, id: &'a RealisationId) -> BoxFuture<'a, Result<Option<Realisation>>> {
        async {
            let asked = self.ask_realisation(id).await;
            self.record_health().await;
            asked.map_err(|fault| Error::realisation(self.name(), id, fault))
        }
        .boxed()
    }

    fn turn<'a>(&'a self, offer: &'a Offer) -> BoxFuture<'a, Option<Turn<'a>>> {
        async {
            let size = offer.file.as_ref().and_then(|file| file.size);
            Some(match size {
                Some(size) if size <= SMALL => self.requests.turn().await,
                _ => self.requests.large_turn().await,
            })
        }
        .boxed()
    }

    fn contents<'a>(
        &'a self,
        offer: &'a Offer,
        turn: Option<Turn<'a>>,
        events: &'a EventSender,
    ) -> BoxFuture<'a, Result<Contents<'a>>> {
        async {
            self.begin(offer, turn, events)
                .await
                .map_err(|fault| Error::fetch(self.name(), self.store_dir.print(&offer.info.path), fault))
        }
        .boxed()
    }
}

/// What a cache says about itself, where it says something.
pub(crate) fn properties(info: &CacheInfo) -> Properties {
    Properties {
        priority: info.priority.unwrap_or(0),
        want_mass_query: info.want_mass_query.unwrap_or(false),
        date: None,
    }
}

/// What the parameters of a cache's URL say counts more than what the cache says.
pub(crate) fn with_settings(properties: Properties, settings: &BinaryCacheUrl) -> Properties {
    Properties {
        priority: settings.priority.unwrap_or(properties.priority),
        want_mass_query: settings.want_mass_query.unwrap_or(properties.want_mass_query),
        date: properties.date,
    }
}

/// Whether somebody's idea of an answer to a program is a page for people.
pub(crate) fn is_web_page(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"<")
}

/// Whether a file is not there. Servers that may not be listed say "forbidden" of what is not there (specification,
/// section 5), and so do those who want a password of everybody else.
fn is_absence(error: &DownloadError) -> bool {
    matches!(error.status(), Some(401 | 403 | 404 | 407 | 410))
}

/// Undoes the coding of a file that has come with one.
async fn decoded(file: SmallFile, limit: usize) -> Result<Vec<u8>, LookupFault> {
    let SmallFile { bytes, coding, .. } = file;
    let Some(coding) = coding.as_deref().map(Coding::of_header).transpose()?.flatten() else {
        return Ok(bytes);
    };
    blocking(move || {
        let mut text = Vec::new();
        let most = limit as u64;
        decoder(coding, bytes.as_slice()).take(most.saturating_add(1)).read_to_end(&mut text)?;
        if text.len() > limit {
            return Err(std::io::Error::other(format!("there are more than {limit} bytes")).into());
        }
        Ok(text)
    })
    .await
}

/// The text of `nix-cache-info`, undone of its coding.
async fn text(file: SmallFile, limit: usize, leave: Leave<'_>) -> Result<Vec<u8>, SubstituterFault> {
    match decoded(file, limit).await {
        Ok(text) if is_web_page(&text) => {
            leave.faulty("it answers with a web page".to_owned());
            Ok(text)
        }
        Ok(text) => {
            leave.answered();
            Ok(text)
        }
        Err(fault) => {
            leave.faulty(fault.to_string());
            Err(match fault {
                LookupFault::Coding(unknown) => unknown.into(),
                fault => std::io::Error::other(fault.to_string()).into(),
            })
        }
    }
}

/// Waits for the head of a download; gives the coding that it comes in.
async fn start(download: &mut Download, events: &EventSender) -> Result<Option<String>, DownloadError> {
    while let Some(piece) = download.next().await? {
        match piece {
            Piece::Start { coding, .. } => return Ok(coding),
            Piece::Retry(retry) => events.warn(retry.to_string()),
            Piece::Bytes(_) => {}
        }
    }
    Ok(None)
}

/// Passes on a download to whoever reads it, no faster than they do.
async fn feed(
    download: &mut Download,
    writer: PipeWriter,
    events: &EventSender,
) -> Result<(), DownloadError> {
    while let Some(piece) = download.next().await? {
        match piece {
            Piece::Bytes(bytes) => {
                if !writer.send(bytes).await {
                    return Ok(());
                }
            }
            Piece::Retry(retry) => events.warn(retry.to_string()),
            Piece::Start { .. } => {}
        }
    }
    writer.finish().await;
    Ok(())
}
