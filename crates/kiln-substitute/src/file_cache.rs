//! A binary cache in a directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kiln_events::{EventSender, quoted};
use kiln_narinfo::{CacheInfo, NarInfo, Realisation, RealisationId};
use kiln_settings::BinaryCacheUrl;
use kiln_store::blocking;
use kiln_store_path::{StoreDir, StorePath};
use rustix::fs::{Mode, OFlags};
use tokio::sync::OnceCell;

use crate::error::{Error, FetchFault, LookupFault, Result, SubstituterFault};
use crate::http_cache::{
    LARGEST_CACHE_INFO, LARGEST_NARINFO, LARGEST_REALISATION, Turn, properties, with_settings,
};
use crate::realisations::realisation_file;
use crate::source::{Contents, Offer, Properties, Substituter};

/// A binary cache in a directory.
pub struct FileCache {
    name: String,
    root: PathBuf,
    settings: BinaryCacheUrl,
    store_dir: StoreDir,
    properties: OnceCell<Properties>,
}

impl FileCache {
    /// The cache in a directory, for stores at `store_dir`. Nothing is looked at yet.
    #[must_use]
    pub fn new(root: PathBuf, settings: BinaryCacheUrl, store_dir: StoreDir) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let name = format!("file://{}", quoted(root.as_os_str().as_bytes()));
        Self { name, root, settings, store_dir, properties: OnceCell::new() }
    }

    async fn read_properties(&self) -> Result<Properties, SubstituterFault> {
        let (root, name, store_dir) = (self.root.clone(), self.name.clone(), self.store_dir.clone());
        blocking(move || {
            if !root.is_dir() {
                return Err(SubstituterFault::NotACache("there is no such directory"));
            }
            // Nix makes the file when it writes to a cache; one that was made in another way is a cache all the same.
            let text = read(&root.join("nix-cache-info"), LARGEST_CACHE_INFO)?.unwrap_or_default();
            let info = CacheInfo::parse(&name, &text)?;
            info.check_store_dir(&name, &store_dir)?;
            Ok(properties(&info))
        })
        .await
    }

    async fn read_path_info(&self, path: &StorePath) -> Result<Option<Offer>, LookupFault> {
        let file_name = format!("{}.narinfo", path.digest());
        let (file, store_dir, path) = (self.root.join(&file_name), self.store_dir.clone(), path.clone());
        blocking(move || {
            let Some(text) = read(&file, LARGEST_NARINFO)? else { return Ok(None) };
            let narinfo = NarInfo::parse(&store_dir, &file_name, &text)?;
            narinfo.check_is_about(&file_name, &path)?;
            Ok(Some(narinfo.into()))
        })
        .await
    }

    async fn read_realisation(&self, id: &RealisationId) -> Result<Option<Realisation>, LookupFault> {
        let (file, id) = (self.root.join(realisation_file(id)), id.clone());
        blocking(move || {
            let Some(text) = read(&file, LARGEST_REALISATION)? else { return Ok(None) };
            Ok(Some(Realisation::parse(&id, &text)?))
        })
        .await
    }

    async fn open_contents(&self, offer: &Offer) -> Result<Contents<'static>, FetchFault> {
        let url = offer.file.as_ref().map(|file| file.url.clone()).ok_or(FetchFault::Gone)?;
        let relative = Path::new(&url);
        // A path that leads out of the cache, or is spelt as if it wanted to, is nobody's honest mistake.
        if !relative.components().all(|component| matches!(component, Component::Normal(_)))
            || url.split('/').any(|part| part == ".")
        {
            let reason = "but only paths below the cache are possible there, without '.' and '..'";
            return Err(FetchFault::Url { url: quoted(url.as_bytes()), reason });
        }
        let file = self.root.join(relative);
        let opened = blocking(move || open(&file)).await?.ok_or(FetchFault::Gone)?;
        Ok(Contents { reader: Box::new(opened), feeding: futures_util::future::ready(Ok(())).boxed() })
    }
}

impl Substituter for FileCache {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_trusted(&self) -> bool {
        self.settings.trusted
    }

    fn properties(&self) -> BoxFuture<'_, Result<Properties>> {
        async {
            let found = self.properties.get_or_try_init(|| self.read_properties()).await;
            let found = found.map_err(|fault| Error::substituter(&self.name, fault))?;
            Ok(with_settings(*found, &self.settings))
        }
        .boxed()
    }

    fn path_info<'a>(&'a self, path: &'a StorePath) -> BoxFuture<'a, Result<Option<Offer>>> {
        async {
            self.read_path_info(path)
                .await
                .map_err(|fault| Error::lookup(&self.name, self.store_dir.print(path), fault))
        }
        .boxed()
    }

    fn realisation<'a>(&'a self, id: &'a RealisationId) -> BoxFuture<'a, Result<Option<Realisation>>> {
        async {
            let read = self.read_realisation(id).await;
            read.map_err(|fault| Error::realisation(&self.name, id, fault))
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
            self.open_contents(offer)
                .await
                .map_err(|fault| Error::fetch(&self.name, self.store_dir.print(&offer.info.path), fault))
        }
        .boxed()
    }
}

/// Opens a regular file; nothing if it isn't there. A FIFO would never come to an end.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(in_file(path, error.into())),
    };
    let metadata = file.metadata().map_err(|error| in_file(path, error))?;
    if !metadata.is_file() {
        return Err(in_file(path, io::Error::other("it is not a regular file")));
    }
    Ok(Some(file))
}

/// Reads a file of at most `limit` bytes; nothing if it isn't there.
fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let most = (limit as u64).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|error| in_file(path, error))?;
    if bytes.len() > limit {
        return Err(in_file(path, io::Error::other(format!("it has more than {limit} bytes"))));
    }
    Ok(Some(bytes))
}

fn in_file(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read '{}': {error}", path.display()))
}
