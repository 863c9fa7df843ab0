//! A binary cache that paths are added to.

use std::collections::HashSet;
use std::io::{Read, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kiln_nar::ListingError;
use kiln_narinfo::{NarInfo, PathInfo, Realisation};
use kiln_settings::{BinaryCacheUrl, CachePlace};
use kiln_store::{ByteStream, waiting};
use kiln_store_path::{StoreDir, StorePath};
use kiln_substitute::{CacheServer, Network};
use tokio::io::AsyncReadExt as _;

use crate::directory::CacheDirectory;
use crate::error::{Error, Result};
use crate::options::WriteOptions;
use crate::pack::pack;
use crate::place::{FileKind, Place};
use crate::server::Server;

/// How many questions there are to a cache at once.
const QUESTIONS: usize = 32;

/// Bytes of a log that are copied at once.
const CHUNK: usize = 64 << 10;

/// A binary cache that paths are added to.
pub struct CacheWriter {
    place: Place,
    options: Arc<WriteOptions>,
    store_dir: StoreDir,
    /// Paths that the cache is known to have.
    known: Mutex<HashSet<StorePath>>,
}

/// What adding a path came to.
#[derive(Debug)]
pub enum Written {
    /// The cache had it.
    Present,
    /// It was added.
    New {
        /// Bytes of the compressed file.
        file_size: u64,
        /// Why there is no listing, if one was wanted and JSON can't express it.
        unlisted: Option<ListingError>,
    },
}

impl CacheWriter {
    /// Opens a cache for paths of `store_dir`, and makes it if it isn't there. `network` says how servers are asked. Waits
    /// for a collection in the cache to end.
    ///
    /// # Errors
    /// It can't be made or written to, or is for another store directory.
    pub async fn open(
        url: &BinaryCacheUrl,
        options: WriteOptions,
        store_dir: StoreDir,
        network: &Arc<Network>,
    ) -> Result<Self> {
        let server = match &url.place {
            CachePlace::File(root) => {
                let (root, expected, syncs) = (root.clone(), store_dir.clone(), options.syncs);
                let opened =
                    waiting(move || CacheDirectory::open_for_writing(&root, &expected, syncs)).await?;
                return Ok(Self::at(Place::Directory(Arc::new(opened)), options, store_dir));
            }
            CachePlace::Http(url) => CacheServer::http(url)?,
            CachePlace::S3(place) => CacheServer::s3(place)?,
        };
        let server = Server::open(server, &store_dir, network, options.parts).await?;
        Ok(Self::at(Place::Server(Box::new(server)), options, store_dir))
    }

    fn at(place: Place, options: WriteOptions, store_dir: StoreDir) -> Self {
        Self { place, options: Arc::new(options), store_dir, known: Mutex::default() }
    }

    /// Its URL without parameters and passwords.
    #[must_use]
    pub fn name(&self) -> &str {
        self.place.name()
    }

    /// What its paths begin with.
    #[must_use]
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// Whether it has a path.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn has(&self, path: &StorePath) -> Result<bool> {
        if self.knows(path) {
            return Ok(true);
        }
        let found = self.place.exists(&narinfo_name(path)).await?;
        if found {
            self.learn(path);
        }
        Ok(found)
    }

    /// Those of `paths` that it has.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn has_of(&self, paths: impl IntoIterator<Item = StorePath>) -> Result<HashSet<StorePath>> {
        let asked = stream::iter(paths).map(|path| async {
            let found = self.has(&path).await?;
            Ok::<_, Error>(found.then_some(path))
        });
        let found = asked.buffer_unordered(QUESTIONS).try_collect::<Vec<_>>().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Adds a path from its archive. The cache must have all of its references.
    ///
    /// # Errors
    /// A reference is missing, the archive is not what `info` says, or the cache can't be written to. The cache doesn't have
    /// the path then.
    pub async fn add(&self, info: &PathInfo, nar: impl Read + Send + 'static) -> Result<Written> {
        if self.has(&info.path).await? {
            return Ok(Written::Present);
        }
        self.check_references(info).await?;
        let mut info = info.clone();
        for key in &self.options.secret_keys {
            info.sign(&self.store_dir, key)?;
        }
        let (options, make_spool) = (Arc::clone(&self.options), self.place.spool_maker());
        let (packing, shown) = (info.clone(), self.store_dir.print(&info.path));
        let (packed, spool) = waiting(move || {
            let spool = make_spool()?;
            let packed = pack(nar, &packing, &shown, &options, spool.file())?;
            Ok::<_, Error>((packed, spool))
        })
        .await?;

        let unlisted = match packed.listing {
            Some(Ok(listing)) => {
                let name = format!("{}.ls", info.path.digest());
                self.place.put(listing.into_bytes(), &name, FileKind::Json).await?;
                None
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        let compression = self.options.compression.clone();
        let url = format!("nar/{}.nar{}", packed.hash.nix32(), compression.file_extension());
        if !self.place.exists(&url).await? {
            self.place.put_spool(spool, packed.size, &url, FileKind::Nar).await?;
        }
        let narinfo = NarInfo {
            info,
            url,
            compression,
            file_hash: Some(packed.hash.into()),
            file_size: Some(packed.size),
        };
        let text = narinfo.to_text(&self.store_dir).into_bytes();
        self.place.put(text, &narinfo_name(&narinfo.info.path), FileKind::NarInfo).await?;
        self.learn(&narinfo.info.path);
        Ok(Written::New { file_size: packed.size, unlisted })
    }

    /// Adds the log of a derivation's build, unless the cache has one; `false` if it has.
    ///
    /// # Errors
    /// The log breaks off, or the cache can't be written to.
    pub async fn add_log(&self, derivation: &StorePath, mut log: ByteStream) -> Result<bool> {
        let name = format!("log/{derivation}");
        if self.place.exists(&name).await? {
            return Ok(false);
        }
        let (make_spool, shown) = (self.place.spool_maker(), self.store_dir.print(derivation));
        let runtime = tokio::runtime::Handle::current();
        let copying = move || {
            let spool = make_spool()?;
            let (mut chunk, mut size) = (Vec::with_capacity(CHUNK), 0_u64);
            loop {
                chunk.clear();
                let read = runtime.block_on(log.read_buf(&mut chunk));
                let written = read.and_then(|_| spool.file().write_all(&chunk));
                written.map_err(|error| Error::Pack { path: shown.clone(), error })?;
                if chunk.is_empty() {
                    return Ok::<_, Error>((spool, size));
                }
                size = size.saturating_add(chunk.len() as u64);
            }
        };
        let (spool, size) = waiting(copying).await?;
        self.place.put_spool(spool, size, &name, FileKind::Log).await?;
        Ok(true)
    }

    /// Adds what an output of a content-addressed derivation was built as, unless the cache knows it.
    ///
    /// # Errors
    /// The cache can't be written to.
    pub async fn add_realisation(&self, realisation: &Realisation) -> Result<()> {
        let name = format!("realisations/{}.doi", realisation.id);
        if self.place.exists(&name).await? {
            return Ok(());
        }
        let mut realisation = realisation.clone();
        for key in &self.options.secret_keys {
            realisation.sign(key);
        }
        self.place.put(realisation.to_json().into_bytes(), &name, FileKind::Json).await
    }

    async fn check_references(&self, info: &PathInfo) -> Result<()> {
        let others = info.references.iter().filter(|reference| **reference != info.path);
        let found = self.has_of(others.clone().cloned()).await?;
        match others.into_iter().find(|reference| !found.contains(*reference)) {
            None => Ok(()),
            Some(missing) => Err(Error::MissingReference {
                path: self.store_dir.print(&info.path),
                reference: self.store_dir.print(missing),
                cache: self.name().to_owned(),
            }),
        }
    }

    fn knows(&self, path: &StorePath) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn learn(&self, path: &StorePath) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
    }
}

fn narinfo_name(path: &StorePath) -> String {
    format!("{}.narinfo", path.digest())
}
