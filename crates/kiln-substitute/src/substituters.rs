//! The substituters of an engine.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_events::{ActivityId, EventSender};
use kiln_remote::DaemonAddress;
use kiln_settings::{BinaryCacheUrl, CachePlace, LocalStoreUrl, StoreUrl};
use kiln_store::{CheckSignatures, LocalStore};
use kiln_store_path::{StoreDir, StorePath};

use crate::daemon_source::DaemonSource;
use crate::error::{Error, FetchFault, Result, SubstituterFault};
use crate::fetch::{Existing, Fetched, fetch};
use crate::file_cache::FileCache;
use crate::health::{Health, HealthReport};
use crate::http_cache::{CacheServer, HttpCache, Network, Turn};
use crate::lookup_cache::LookupCache;
use crate::search::{Candidate, Search};
use crate::source::Substituter;
use crate::source_lookup::Source;
use crate::store_source::StoreSource;
use crate::trust::{Grounds, TrustPolicy, Verdict};

/// What substituters need of their surroundings.
pub struct Surroundings {
    /// The store directory that they must be for.
    pub store_dir: StoreDir,
    /// How servers are asked.
    pub network: Arc<Network>,
    /// What servers have said before.
    pub known: LookupCache,
    /// The socket of the usual daemon, which `daemon` stands for.
    pub daemon_socket: PathBuf,
    /// `NIX_SSHOPTS`: further arguments for ssh.
    pub ssh_options: Option<String>,
    /// Whom the user trusts.
    pub trust: TrustPolicy,
}

/// Where paths can be had from. Cheap to clone.
#[derive(Clone)]
pub struct Substituters {
    sources: Arc<[Arc<Source>]>,
    store_dir: StoreDir,
    trust: Arc<TrustPolicy>,
}

impl Substituters {
    /// The substituters of these URLs, in the order of which those of the same priority are asked. Nothing is asked yet:
    /// whether a URL leads anywhere shows when a path is wanted. Those that can't be used come back as errors.
    #[must_use]
    pub fn open(urls: &[String], surroundings: &Surroundings) -> (Self, Vec<Error>) {
        let mut errors = Vec::new();
        let mut opened: Vec<Box<dyn Substituter>> = Vec::new();
        for url in urls {
            match open_substituter(url, surroundings) {
                // Asking twice would not make it better.
                Ok(substituter) if opened.iter().any(|other| other.name() == substituter.name()) => {}
                Ok(substituter) => opened.push(substituter),
                Err(error) => errors.push(error),
            }
        }
        (Self::new(opened, surroundings.store_dir.clone(), surroundings.trust.clone()), errors)
    }

    /// These substituters, all for `store_dir`.
    #[must_use]
    pub fn new(substituters: Vec<Box<dyn Substituter>>, store_dir: StoreDir, trust: TrustPolicy) -> Self {
        let source = |substituter| Source::new(substituter, store_dir.clone());
        let sources = substituters.into_iter().map(source).collect();
        Self { sources, store_dir, trust: Arc::new(trust) }
    }

    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    pub(crate) fn trust(&self) -> &TrustPolicy {
        &self.trust
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Asks all substituters about a path; whoever has it comes out of the search in order of priority. Must be called
    /// within the runtime.
    #[must_use]
    pub fn find(&self, path: &StorePath) -> Search {
        Search::new(&self.sources, path)
    }

    /// Whether what a candidate says about its path may be believed (G3).
    #[must_use]
    pub fn verdict(&self, candidate: &Candidate) -> Verdict {
        let is_trusted = candidate.source.substituter.is_trusted();
        self.trust.verdict(&self.store_dir, candidate.info(), is_trusted)
    }

    /// Whether the store that gets what a candidate offers has to look at signatures once more.
    ///
    /// # Errors
    /// Nothing vouches for it.
    pub fn check(&self, candidate: &Candidate) -> Result<CheckSignatures> {
        match self.verdict(candidate) {
            Verdict::Untrusted(objection) => {
                let path = self.store_dir.print(&candidate.info().path);
                Err(Error::fetch(candidate.substituter(), path, FetchFault::Untrusted(objection)))
            }
            Verdict::Trusted(Grounds::NothingIsRequired | Grounds::Substituter) => Ok(CheckSignatures::No),
            Verdict::Trusted(Grounds::ContentAddressed | Grounds::Signed) => Ok(CheckSignatures::Yes),
        }
    }

    /// Fetches what a candidate offers into a store and registers it, whether it is valid or only if it isn't, as `existing`
    /// says. All references must be valid. `parent` is the activity that it belongs to.
    ///
    /// Whoever has a [turn](Candidate::turn) gives it, and a future that is waited for as soon as contents begin to come; what
    /// that gives is kept until all are there.
    ///
    /// # Errors
    /// Nothing vouches for it, it is not to be had, or it is not what was offered; then nothing is left of it.
    pub async fn fetch(
        &self,
        candidate: &Candidate,
        store: &LocalStore,
        existing: Existing,
        admission: (Option<Turn<'_>>, impl Future),
        (events, parent): (&EventSender, ActivityId),
    ) -> Result<Fetched> {
        let check = self.check(candidate)?;
        fetch(candidate, store, (check, existing), admission, (events, parent)).await
    }

    /// How the servers among the substituters fare.
    #[must_use]
    pub fn health(&self) -> Vec<(String, HealthReport)> {
        let report = |health: &Arc<Health>| health.report();
        let reports = self.sources.iter().filter_map(|source| {
            Some((source.substituter.name().to_owned(), source.substituter.health().map(report)?))
        });
        reports.collect()
    }

    /// Has all servers asked at once, whatever happened before.
    pub fn reset_health(&self) {
        for health in self.sources.iter().filter_map(|source| source.substituter.health()) {
            health.reset();
        }
    }
}

/// The substituter of a URL. Nothing is asked yet.
///
/// # Errors
/// It does not read, or nothing can be substituted from there.
pub fn open_substituter(url: &str, surroundings: &Surroundings) -> Result<Box<dyn Substituter>> {
    let store_dir = surroundings.store_dir.clone();
    let Some(settings) = BinaryCacheUrl::parse(url)? else {
        return match StoreUrl::parse(url)? {
            // The usual one is where the paths are to go.
            StoreUrl::Local(local) if local != usual(&local) => {
                Ok(Box::new(StoreSource::new(local, store_dir)))
            }
            StoreUrl::Daemon { socket, parameters } => {
                let socket = socket.unwrap_or_else(|| surroundings.daemon_socket.clone());
                let address = DaemonAddress::new(&absolute(socket), &parameters, store_dir.clone())?;
                Ok(Box::new(DaemonSource::new(address, store_dir)))
            }
            StoreUrl::Ssh(machine) => {
                let options = surroundings.ssh_options.as_deref();
                let address = DaemonAddress::by_ssh(&machine, options, store_dir.clone())?;
                Ok(Box::new(DaemonSource::new(address, store_dir)))
            }
            _ => Err(Error::UnsupportedUrl(kiln_events::quoted(url.as_bytes()))),
        };
    };
    if let Some(found) = &settings.store
        && found.as_os_str() != store_dir.as_str()
    {
        let (found, expected) = (found.to_string_lossy().into_owned(), store_dir.to_string());
        let fault = SubstituterFault::OtherStore { found, expected };
        let substituter = kiln_events::quoted(url.split('?').next().unwrap_or_default().as_bytes());
        return Err(Error::substituter(&substituter, fault));
    }
    let server = match &settings.place {
        CachePlace::File(root) => {
            return Ok(Box::new(FileCache::new(absolute(root.clone()), settings, store_dir)));
        }
        CachePlace::Http(url) => CacheServer::http(url)?,
        CachePlace::S3(place) => CacheServer::s3(place)?,
    };
    let Surroundings { network, known, .. } = surroundings;
    Ok(Box::new(HttpCache::new(server, settings, store_dir, network, known.clone())))
}

/// The local store without places of its own, with the other parameters of this one.
fn usual(url: &LocalStoreUrl) -> LocalStoreUrl {
    LocalStoreUrl {
        root: None,
        store: None,
        real: None,
        state: None,
        log: None,
        build_dir: None,
        ..url.clone()
    }
}

/// `file://cache` means nothing but the directory of whoever runs the program.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
