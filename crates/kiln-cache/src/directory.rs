//! A binary cache in a directory, as it is written to.
//!
//! Files are written in the directory `.tmp` of the cache and get their names when they are whole. Whoever writes to a
//! cache holds a shared lock on its directory, and whoever collects garbage there an exclusive one: so no file is taken
//! for garbage whose narinfo is about to come. What is in `.tmp` while the lock is exclusive was left by a process that was
//! killed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kiln_events::quoted;
use kiln_narinfo::CacheInfo;
use kiln_store_path::StoreDir;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{During, Result};
use crate::spool::Spool;

/// The name of the file that says what a cache is.
pub(crate) const CACHE_INFO: &str = "nix-cache-info";

/// The largest such file that is read, in bytes.
pub(crate) const LARGEST_CACHE_INFO: u64 = 64 << 10;

/// Where files are written before they have their names.
const SCRATCH: &str = ".tmp";

/// A cache in a directory, locked as long as this is there.
#[derive(Debug)]
pub(crate) struct CacheDirectory {
    root: PathBuf,
    name: String,
    syncs: bool,
    /// Holds the lock.
    lock: File,
}

/// How a cache is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// With others who write.
    Writing,
    /// Alone.
    Collecting,
}

impl CacheDirectory {
    /// Opens a cache to write to it, and makes what is missing of it. Waits for a collection to end. Blocks.
    pub(crate) fn open_for_writing(root: &Path, store_dir: &StoreDir, syncs: bool) -> Result<Self> {
        fs::create_dir_all(root).during("create directory", root)?;
        let cache = Self::lock(root, Access::Writing, syncs)?;
        for directory in ["nar", "realisations", "log", SCRATCH] {
            let directory = root.join(directory);
            fs::create_dir_all(&directory).during("create directory", &directory)?;
        }
        let info = match cache.read(CACHE_INFO, LARGEST_CACHE_INFO)? {
            Some(text) => CacheInfo::parse(&cache.name, &text)?,
            None => {
                let info = CacheInfo { store_dir: Some(store_dir.clone()), ..CacheInfo::default() };
                cache.write(CACHE_INFO, info.to_text().as_bytes())?;
                info
            }
        };
        info.check_store_dir(&cache.name, store_dir)?;
        Ok(cache)
    }

    /// Opens a cache that is there already, alone. Waits for those who write to it. Blocks.
    pub(crate) fn open_for_collecting(root: &Path) -> Result<Self> {
        Self::lock(root, Access::Collecting, false)
    }

    fn lock(root: &Path, access: Access, syncs: bool) -> Result<Self> {
        let lock = File::open(root).during("open directory", root)?;
        let name = format!("file://{}", quoted(root.as_os_str().as_bytes()));
        let cache = Self { root: root.to_owned(), name, syncs, lock };
        let is_alone = match flock(&cache.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::WOULDBLOCK) => false,
            // Some file systems of networks have no locks on directories. Files are spared there by their age alone.
            Err(Errno::BADF | Errno::NOLCK | Errno::OPNOTSUPP) if access == Access::Writing => {
                return Ok(cache);
            }
            Err(error) => return Err(error).during("lock", root),
        };
        if !is_alone && access == Access::Collecting {
            flock(&cache.lock, FlockOperation::LockExclusive).during("lock", root)?;
        }
        if is_alone || access == Access::Collecting {
            cache.remove_leftovers()?;
        }
        if access == Access::Writing {
            flock(&cache.lock, FlockOperation::LockShared).during("lock", root)?;
        }
        Ok(cache)
    }

    fn remove_leftovers(&self) -> Result<()> {
        let directory = self.root.join(SCRATCH);
        for name in names(&directory)? {
            let path = directory.join(name);
            fs::remove_file(&path).during("remove", &path)?;
        }
        Ok(())
    }

    /// Its URL without parameters.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is a file.
    pub(crate) fn exists(&self, name: &str) -> Result<bool> {
        let path = self.root.join(name);
        path.try_exists().during("look at", &path)
    }

    /// Reads a file of at most `limit` bytes; nothing if it isn't there.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).during("open", &path),
        };
        let mut text = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut text).during("read", &path)?;
        if text.len() as u64 > limit {
            let error = io::Error::other(format!("it has more than {limit} bytes"));
            return Err(error).during("read", &path);
        }
        Ok(Some(text))
    }

    /// A file that gets its name later.
    pub(crate) fn spool(&self) -> Result<Spool> {
        Spool::create(&self.root.join(SCRATCH))
    }

    /// Gives a file its name.
    pub(crate) fn name_spool(&self, spool: Spool, name: &str) -> Result<()> {
        spool.name(&self.root.join(name), self.syncs)
    }

    /// Writes a small file, in place of whatever has its name.
    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> Result<()> {
        let spool = self.spool()?;
        let mut file = spool.file();
        file.write_all(contents).during("write", spool.path())?;
        self.name_spool(spool, name)
    }
}

impl Drop for CacheDirectory {
    fn drop(&mut self) {
        // Whoever locks the cache next makes it again.
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir(self.root.join(SCRATCH));
        }
    }
}

/// The names in a directory; none if it isn't there.
pub(crate) fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).during("read directory", directory),
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
    entries.map(name).collect::<io::Result<_>>().during("read directory", directory)
}
