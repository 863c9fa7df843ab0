//! All that requests are answered from, and the way of one request.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderName};
use hyper::{Method, Request, Response, Version};
use kiln_events::{EventSender, quoted};
use kiln_hash::Sha256;
use kiln_nar::DigestText;
use kiln_narinfo::{PathInfo, SecretKey};
use kiln_store::{ByteStream, LocalStore};
use kiln_store_path::StorePath;
use kiln_web::Busy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::answer::{Answer, Refusal};
use crate::body::{Body, Content, Stream};
use crate::limits::{Limits, PAGES_AT_ONCE};
use crate::metrics::Metrics;
use crate::resource::Resource;

/// How archives are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveCoding {
    /// As they are: their length is known, and a transfer that broke off is gone on with.
    #[default]
    Plain,
    /// As files compressed with zstd, which narinfo files name.
    Zstd,
}

/// How a store is offered.
#[derive(Debug, Default)]
pub struct ServeConfig {
    /// Where clients put the cache among others, lowest first.
    pub priority: i64,
    /// How archives are sent.
    pub coding: ArchiveCoding,
    /// What signs all that is told of paths, besides the signatures that the store has.
    pub keys: Arc<[SecretKey]>,
    /// What clients may cost.
    pub limits: Limits,
}

/// What all connections share.
pub(crate) struct Site {
    pub(crate) store: LocalStore,
    pub(crate) config: ServeConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: EventSender,
    pub(crate) pages: Semaphore,
    streams: Arc<Semaphore>,
}

/// A request, as far as it matters.
pub(crate) struct Asked<'a> {
    /// Only the head of the answer is wanted.
    pub(crate) is_head: bool,
    version: Version,
    headers: &'a HeaderMap,
    busy: &'a Busy,
}

impl Asked<'_> {
    /// A line of the head, if it is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A path that is not collected as long as this is there, and a place for sending it.
pub(crate) struct Held {
    _roots: LocalStore,
    _place: OwnedSemaphorePermit,
}

impl kiln_web::Site for Site {
    type Body = Body;

    async fn answer(&self, request: Request<Incoming>, busy: Busy) -> Response<Body> {
        let begin = Instant::now();
        let uri = request.uri();
        let resource = Resource::parse(uri.path(), uri.query());
        let kind = resource.as_ref().map_or("other", Resource::kind);
        let asked = Asked {
            is_head: request.method() == Method::HEAD,
            version: request.version(),
            headers: request.headers(),
            busy: &busy,
        };
        let answer = match (resource, request.method()) {
            (Some(resource), &(Method::GET | Method::HEAD)) => self.find(resource, &asked).await,
            (None, &(Method::GET | Method::HEAD)) => Err(Refusal::NotFound),
            _ => Err(Refusal::Method),
        };
        let answer = answer.and_then(|answer| asked.check(answer)).unwrap_or_else(|refusal| {
            self.note(&refusal, uri.path());
            refusal.answer()
        });
        let response = answer.into_response();
        self.metrics.answered(kind, response.status().as_u16(), begin.elapsed());
        let is_head = asked.is_head;
        response.map(|content| {
            let content = if is_head { Content::Nothing(None) } else { content };
            Body::new(content, Arc::clone(&self.metrics), busy)
        })
    }

    fn connected(&self) {
        self.metrics.connected();
    }

    fn disconnected(&self) {
        self.metrics.disconnected();
    }
}

impl Site {
    pub(crate) fn new(store: LocalStore, config: ServeConfig, events: EventSender) -> Arc<Self> {
        let streams = Arc::new(Semaphore::new(config.limits.streams));
        let (metrics, pages) = (Arc::default(), Semaphore::new(PAGES_AT_ONCE));
        Arc::new(Self { store, config, metrics, events, pages, streams })
    }

    async fn find(&self, resource: Resource, asked: &Asked<'_>) -> Result<Answer, Refusal> {
        match resource {
            Resource::CacheInfo => Ok(self.cache_info()),
            Resource::NarInfo(digest) => self.narinfo(&digest).await,
            Resource::Listing(digest) => self.listing(&digest, asked).await,
            Resource::Archive { digest, nar_hash, is_compressed } => {
                self.archive(&digest, &nar_hash, is_compressed, asked).await
            }
            Resource::Log(derivation) => self.log(&derivation, asked).await,
            Resource::Realisation(id) => self.realisation(&id).await,
            Resource::Health => self.health().await,
            Resource::Metrics => Ok(self.counters()),
            Resource::Home => Ok(self.home(asked.header(HOST))),
            Resource::Page(digest) => self.page(&digest).await,
            Resource::Find(typed) => self.typed(&typed),
            Resource::Style => Ok(self.style()),
        }
    }

    /// What is wrong here is for the server's own log.
    fn note(&self, refusal: &Refusal, path: &str) {
        let path = quoted(path.as_bytes());
        match refusal {
            Refusal::Store(error) => self.events.warn(format!("cannot answer '{path}': {error}")),
            Refusal::Files(error) => self.events.warn(format!("cannot answer '{path}': {error}")),
            Refusal::NotFound | Refusal::Method | Refusal::Busy | Refusal::TooOld => {}
        }
    }

    /// What is known about the valid path with this digest. A path whose archive nobody has measured is not offered.
    pub(crate) async fn path_info(&self, digest: &DigestText) -> Result<Arc<PathInfo>, Refusal> {
        let path = self.store.path_by_digest(digest.as_str()).await?.ok_or(Refusal::NotFound)?;
        let info = self.store.path_info(&path).await?.ok_or(Refusal::NotFound)?;
        if info.nar_size == 0 || info.nar_hash == Sha256::UNKNOWN {
            return Err(Refusal::NotFound);
        }
        Ok(info)
    }

    /// Keeps a path from being collected while it is sent.
    pub(crate) async fn hold(&self, path: &StorePath) -> Result<Held, Refusal> {
        let place = self.place().await?;
        let roots = self.store.with_own_roots();
        roots.add_temp_roots(vec![path.clone()]).await?;
        // It may have been collected right before.
        if !roots.is_valid(path).await? {
            return Err(Refusal::NotFound);
        }
        Ok(Held { _roots: roots, _place: place })
    }

    /// Waits for a place for something that streams.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place =
            timeout(self.config.limits.wait_for_stream, Arc::clone(&self.streams).acquire_owned()).await;
        // The semaphore is never closed.
        place.ok().and_then(Result::ok).ok_or(Refusal::Busy)
    }

    /// Begins to send what `source` gives, of which the length is known or not.
    pub(crate) async fn stream(
        &self,
        source: ByteStream,
        length: Option<u64>,
        kept: impl Send + 'static,
        asked: &Asked<'_>,
    ) -> Result<Content, Refusal> {
        let stalled = self.config.limits.stalled;
        let begun = Stream::begin(source, length, kept, asked.busy.activity(), stalled).await;
        begun.map(Content::Stream).map_err(Refusal::Files)
    }
}

impl Asked<'_> {
    /// Without chunks, the end of an answer of unknown length looks like a broken connection, and the other way round.
    fn check(&self, answer: Answer) -> Result<Answer, Refusal> {
        let is_endless = matches!(answer.content, Content::Stream(_)) && answer.content.length().is_none();
        if is_endless && self.version < Version::HTTP_11 { Err(Refusal::TooOld) } else { Ok(answer) }
    }
}
