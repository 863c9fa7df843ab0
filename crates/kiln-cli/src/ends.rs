//! The two ends of a copy, and whatever else a URL of a store or cache may name.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use kiln_cache::{CacheWriter, DaemonWriter, Destination, Source, WriteOptions};
use kiln_narinfo::PublicKeys;
use kiln_remote::{DaemonAddress, RemoteStore};
use kiln_settings::{BinaryCacheUrl, CachePlace, LocalStoreUrl, Settings, StoreUrl};
use kiln_store::LocalStore;
use kiln_store_path::StoreDir;
use kiln_substitute::{LookupCache, Network, Surroundings, TimeToLive, TrustPolicy};
use rustix::fs::{Access, access};

use crate::failure::{Failure, While};
use crate::invocation::Invocation;
use crate::session::Work;
use crate::{configuration, daemon_store, store_config};

/// What a URL names.
pub(crate) enum End {
    /// A local store, and the settings under which it is opened.
    Store(Box<Settings>),
    /// A binary cache.
    Cache(Box<BinaryCacheUrl>),
    /// The store behind a daemon.
    Daemon(Box<DaemonAddress>),
}

impl End {
    /// What a URL names, or the store of the settings.
    pub(crate) fn parse(
        url: Option<&str>,
        settings: &Settings,
        invocation: &Invocation<'_>,
    ) -> Result<Self, Failure> {
        let store = match url {
            Some(url) => {
                if let Some(cache) = BinaryCacheUrl::parse(url)? {
                    return Ok(Self::Cache(Box::new(absolute(cache)?)));
                }
                StoreUrl::parse(&configuration::absolute(url)?)?
            }
            None => settings.store.clone(),
        };
        match daemon_store::address(&store, invocation.environment)? {
            Some(address) => Ok(Self::Daemon(Box::new(address))),
            None => Ok(Self::Store(Box::new(Settings { store, ..settings.clone() }))),
        }
    }

    /// A daemon as it is used for copies.
    pub(crate) fn daemon(work: &Work, invocation: &Invocation<'_>, address: DaemonAddress) -> RemoteStore {
        let options = daemon_store::options(&work.settings, Vec::new(), invocation.terminal.verbosity, false);
        RemoteStore::new(address, options, work.events.clone())
    }

    /// Opens a store to read from, which has to be there.
    pub(crate) fn open_to_read(
        work: &Work,
        invocation: &Invocation<'_>,
        settings: &Settings,
    ) -> Result<(LocalStore, LocalStoreUrl), Failure> {
        let mut config = store_config::from_settings(settings, invocation.environment)?;
        let database = config.locations.state_dir.join("db/db.sqlite");
        if !database.exists() {
            let place = config.locations.state_dir.display();
            return Err(Failure::input(format!("there is no store with its state in '{place}'")));
        }
        config.read_only |= access(&database, Access::WRITE_OK).is_err();
        let url = match &settings.store {
            StoreUrl::Local(url) => url.clone(),
            _ => LocalStoreUrl::default(),
        };
        Ok((work.open_store(config)?, url))
    }
}

/// The URL of the store of the settings if that is none which commands usually work on: of a binary cache, or of what Kiln
/// doesn't know.
pub(crate) fn cache_of(settings: &Settings) -> Option<&str> {
    match &settings.store {
        StoreUrl::Other(url) => Some(url),
        _ => None,
    }
}

/// Where paths come from and go to.
pub(crate) struct Ends {
    pub(crate) source: Source,
    pub(crate) destination: Destination,
    /// The source, if it is a local store.
    pub(crate) store: Option<LocalStore>,
    /// The source, if it is the store of a daemon.
    pub(crate) daemon: Option<RemoteStore>,
}

impl Ends {
    /// Opens both ends of a copy. `checks` is whether signatures are, where the destination wants them.
    pub(crate) fn open(
        work: &Work,
        invocation: &Invocation<'_>,
        (from, to): (Option<&str>, Option<&str>),
        checks: bool,
    ) -> Result<Self, Failure> {
        let from_end = End::parse(from, &work.settings, invocation)?;
        let store = match &from_end {
            End::Store(settings) => Some(End::open_to_read(work, invocation, settings)?),
            End::Cache(_) | End::Daemon(_) => None,
        };
        let target = match End::parse(to, &work.settings, invocation)? {
            End::Store(settings) => {
                let config = store_config::from_settings(&settings, invocation.environment)?;
                Target::Store(work.open_store(config)?)
            }
            End::Cache(url) => Target::Cache(url),
            End::Daemon(address) => Target::Daemon(End::daemon(work, invocation, *address)),
        };
        let daemon = match from_end {
            End::Daemon(address) => Some(End::daemon(work, invocation, *address)),
            End::Store(_) | End::Cache(_) => None,
        };
        let store_dir = match (&store, &daemon, &target) {
            (Some((store, _)), ..) => store.store_dir().clone(),
            (None, Some(daemon), _) => daemon.store_dir().clone(),
            (None, None, Target::Store(store)) => store.store_dir().clone(),
            (None, None, Target::Daemon(daemon)) => daemon.store_dir().clone(),
            (None, None, Target::Cache(_)) => daemon_store::usual_store_dir(invocation.environment)?,
        };
        let mut surroundings = surroundings(work, invocation, store_dir.clone())?;
        surroundings.trust = match &target {
            Target::Store(store) => {
                check_store_dirs(&store_dir, store.store_dir())?;
                let config = store.config();
                let require_signatures = checks && config.require_signatures;
                TrustPolicy { require_signatures, keys: config.trusted_keys.clone() }
            }
            // Whoever takes it from there looks at signatures.
            Target::Cache(_) => TrustPolicy { require_signatures: false, keys: PublicKeys::default() },
            // It does so itself.
            Target::Daemon(daemon) => {
                check_store_dirs(&store_dir, daemon.store_dir())?;
                TrustPolicy { require_signatures: false, keys: PublicKeys::default() }
            }
        };
        let opened = store.as_ref().map(|(store, _)| store.clone());
        let source = match (store, &daemon) {
            (Some((store, url)), _) => Source::of_store(store, url, &surroundings),
            (None, Some(daemon)) => Source::of_daemon(daemon.clone(), &surroundings),
            (None, None) => Source::open(from.unwrap_or_default(), &surroundings)?,
        };
        let destination = match target {
            Target::Store(store) => Destination::Store(store),
            Target::Daemon(store) => Destination::Daemon(DaemonWriter::new(store, checks)),
            Target::Cache(url) => {
                Destination::Cache(open_cache(work, &url, store_dir, &surroundings.network)?)
            }
        };
        Ok(Self { source, destination, store: opened, daemon })
    }
}

/// A destination that isn't opened yet, if it is a cache.
enum Target {
    Store(LocalStore),
    Cache(Box<BinaryCacheUrl>),
    Daemon(RemoteStore),
}

fn open_cache(
    work: &Work,
    url: &BinaryCacheUrl,
    store_dir: StoreDir,
    network: &Arc<Network>,
) -> Result<CacheWriter, Failure> {
    let (mut options, unknown) = WriteOptions::from_url(&shown(url), url)?;
    for name in unknown {
        work.events.warn(format!("unknown parameter '{name}' of the binary cache '{}'", shown(url)));
    }
    options.syncs = work.settings.fsync_store_paths;
    Ok(work.wait(CacheWriter::open(url, options, store_dir, network))?)
}

fn shown(url: &BinaryCacheUrl) -> String {
    match &url.place {
        CachePlace::File(root) => format!("file://{}", root.display()),
        // Without user and password.
        CachePlace::Http(address) => match (address.split_once("://"), address.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            _ => address.clone(),
        },
        CachePlace::S3(place) => format!("s3://{}", place.bucket),
    }
}

/// How servers are asked, and who is trusted. What servers say is not remembered: what matters is what is there now.
pub(crate) fn surroundings(
    work: &Work,
    invocation: &Invocation<'_>,
    store_dir: StoreDir,
) -> Result<Surroundings, Failure> {
    let environment: BTreeMap<Vec<u8>, Vec<u8>> =
        invocation.environment.variables().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    work.wait(async {
        let known = LookupCache::open(None, TimeToLive::default()).await?;
        let (surroundings, bad) =
            kiln_build::surroundings(&work.settings, &environment, store_dir, known).await;
        bad.into_iter().for_each(|error| work.events.warn(error));
        Ok(surroundings)
    })
}

fn check_store_dirs(from: &StoreDir, to: &StoreDir) -> Result<(), Failure> {
    if from == to {
        return Ok(());
    }
    Err(Failure::input(format!("paths of stores at '{from}' cannot be copied to one at '{to}'")))
}

/// `file://cache` means nothing but the directory of whoever runs the program.
fn absolute(mut url: BinaryCacheUrl) -> Result<BinaryCacheUrl, Failure> {
    if let CachePlace::File(root) = &mut url.place {
        *root = std::path::absolute(&root).doing(|| "looking for the working directory")?;
    }
    Ok(url)
}
