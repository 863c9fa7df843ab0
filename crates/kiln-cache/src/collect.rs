//! Tidying up a binary cache in a directory.
//!
//! What goes is decided first, from all narinfos, and then deleted in an order in which no narinfo is ever without its file
//! or one of its references: narinfos, referrers first, then what they named.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_narinfo::{CacheInfo, NarInfo, Realisation, RealisationId};
use kiln_store_path::{StoreDir, StorePath};

use crate::copy::Order;
use crate::directory::{CACHE_INFO, CacheDirectory, LARGEST_CACHE_INFO, names};
use crate::error::{During, Error, Result};

/// The largest narinfo or realisation that is read, in bytes.
const LARGEST_NARINFO: u64 = 2 << 20;

/// What is collected.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// Delete paths that were added so long ago, unless a younger one needs them.
    pub older_than: Option<Duration>,
    /// Delete narinfos that don't read, whose file is missing, or one of whose references is, and all that refer to them.
    pub broken: bool,
    /// Spare files that no narinfo names if they are younger than this: somebody may be about to name them.
    pub grace: Duration,
    /// Delete nothing.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheGarbage {
    /// Paths that the cache does not have any more, as base names.
    pub paths: BTreeSet<StorePath>,
    /// All files, relative to the cache.
    pub files: BTreeSet<PathBuf>,
    /// Bytes of these files.
    pub freed: u64,
    /// How many paths the cache still has.
    pub kept: usize,
    /// What is wrong with narinfos that were kept, or are deleted for it.
    pub faults: Vec<String>,
}

/// Collects garbage in a cache. Waits until nobody writes to it. Ages are counted from `now`. Blocks.
///
/// # Errors
/// It is no cache, has narinfos that don't read (unless broken ones are to go), or can't be changed.
pub fn collect(root: &Path, options: &CollectOptions, now: SystemTime) -> Result<CacheGarbage> {
    let cache = CacheDirectory::open_for_collecting(root)?;
    let contents = Contents::read(&cache, options)?;
    let dead = contents.dead(options, now);
    let mut sweep = Sweep { cache: &cache, options, now, garbage: CacheGarbage::default() };
    sweep.garbage.kept = contents.paths.len() - dead.len();
    sweep.garbage.faults.clone_from(&contents.faults);
    for name in &contents.unreadable {
        sweep.delete(Path::new(name))?;
    }
    sweep.narinfos(&contents, &dead)?;
    sweep.unnamed(&contents, &dead)?;
    sweep.garbage.paths = dead;
    Ok(sweep.garbage)
}

/// A path that the cache has.
struct Kept {
    references: BTreeSet<StorePath>,
    /// The file with its archive, relative to the cache, if it is there.
    file: Option<PathBuf>,
    added: SystemTime,
}

/// What is in a cache.
struct Contents {
    paths: HashMap<StorePath, Kept>,
    /// Names of narinfos that don't read.
    unreadable: Vec<String>,
    /// Paths whose file or references are missing.
    broken: HashSet<StorePath>,
    faults: Vec<String>,
}

impl Contents {
    fn read(cache: &CacheDirectory, options: &CollectOptions) -> Result<Self> {
        let info = match cache.read(CACHE_INFO, LARGEST_CACHE_INFO)? {
            Some(text) => CacheInfo::parse(cache.name(), &text)?,
            None => CacheInfo::default(),
        };
        let store_dir = info.store_dir.unwrap_or_default();
        let (paths, unreadable) = (HashMap::new(), Vec::new());
        let mut contents = Self { paths, unreadable, broken: HashSet::new(), faults: Vec::new() };
        for name in names(cache.root())? {
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".narinfo")) {
                contents.read_narinfo(cache, &store_dir, name, options)?;
            }
        }
        contents.find_broken(cache, &store_dir)?;
        Ok(contents)
    }

    fn read_narinfo(
        &mut self,
        cache: &CacheDirectory,
        store_dir: &StoreDir,
        name: &str,
        options: &CollectOptions,
    ) -> Result<()> {
        let file = cache.root().join(name);
        let added = file.metadata().and_then(|metadata| metadata.modified()).during("look at", &file)?;
        let text = cache.read(name, LARGEST_NARINFO)?.unwrap_or_default();
        let parsed = NarInfo::parse(store_dir, name, &text).and_then(|narinfo| {
            narinfo.check_has_digest(name, name.trim_end_matches(".narinfo"))?;
            Ok(narinfo)
        });
        match parsed {
            Ok(narinfo) => {
                let file = relative(&narinfo.url);
                let kept = Kept { references: narinfo.info.references, file, added };
                self.paths.insert(narinfo.info.path, kept);
            }
            Err(error) if options.broken => {
                self.faults.push(error.to_string());
                self.unreadable.push(name.to_owned());
            }
            // It may name any file.
            Err(error) => {
                let error = Box::new(error);
                return Err(Error::NarInfo { cache: cache.name().to_owned(), error });
            }
        }
        Ok(())
    }

    fn find_broken(&mut self, cache: &CacheDirectory, store_dir: &StoreDir) -> Result<()> {
        let mut sorted: Vec<(&StorePath, &Kept)> = self.paths.iter().collect();
        sorted.sort_unstable_by_key(|(path, _)| *path);
        for (path, kept) in sorted {
            let gone = kept.references.iter().find(|reference| !self.paths.contains_key(*reference));
            let fault = if let Some(reference) = gone {
                format!("refers to '{}', which the cache does not have", store_dir.display(reference))
            } else if let Some(file) = &kept.file
                && !cache.exists(&file.to_string_lossy())?
            {
                format!("has lost its file '{}'", file.display())
            } else {
                continue;
            };
            self.faults.push(format!("path '{}' {fault}", store_dir.display(path)));
            self.broken.insert(path.clone());
        }
        Ok(())
    }

    /// The paths that are to go. Of what stays, all references stay that the cache has.
    fn dead(&self, options: &CollectOptions, now: SystemTime) -> BTreeSet<StorePath> {
        let mut dead = BTreeSet::new();
        if let Some(limit) = options.older_than {
            let is_young = |kept: &Kept| !is_older(kept.added, limit, now);
            let young = self.paths.iter().filter(|(_, kept)| is_young(kept)).map(|(path, _)| path);
            let needed = self.reach(young, |path| {
                self.paths.get(path).into_iter().flat_map(|kept| &kept.references).collect()
            });
            dead.extend(self.paths.keys().filter(|path| !needed.contains(*path)).cloned());
        }
        if options.broken {
            let mut referrers: HashMap<&StorePath, Vec<&StorePath>> = HashMap::new();
            for (path, kept) in &self.paths {
                for reference in &kept.references {
                    referrers.entry(reference).or_default().push(path);
                }
            }
            let doomed = self.reach(self.broken.iter(), |path| {
                referrers.get(path).into_iter().flatten().copied().collect()
            });
            dead.extend(doomed.into_iter().cloned());
        }
        dead
    }

    /// All paths of the cache that can be reached.
    fn reach<'a>(
        &'a self,
        start: impl Iterator<Item = &'a StorePath>,
        next: impl Fn(&StorePath) -> Vec<&'a StorePath>,
    ) -> HashSet<&'a StorePath> {
        let mut queue: Vec<&StorePath> = start.collect();
        let mut seen = HashSet::new();
        while let Some(path) = queue.pop() {
            if self.paths.contains_key(path) && seen.insert(path) {
                queue.extend(next(path));
            }
        }
        seen
    }
}

/// Deletes, or only counts.
struct Sweep<'a> {
    cache: &'a CacheDirectory,
    options: &'a CollectOptions,
    now: SystemTime,
    garbage: CacheGarbage,
}

impl Sweep<'_> {
    /// Deletes narinfos, referrers first, with their listings, and realisations as what is not there any more.
    fn narinfos(&mut self, contents: &Contents, dead: &BTreeSet<StorePath>) -> Result<()> {
        let references: BTreeMap<&StorePath, &BTreeSet<StorePath>> = contents
            .paths
            .iter()
            .filter(|(path, _)| dead.contains(*path))
            .map(|(path, kept)| (path, &kept.references))
            .collect();
        let mut order = Order::new(references.iter().map(|(path, references)| (*path, *references)));
        let mut ordered = Vec::new();
        while let Some(path) = order.next() {
            order.arrived(&path);
            ordered.push(path);
        }
        // What refers to each other in a circle was never whole.
        let listed: HashSet<StorePath> = ordered.iter().cloned().collect();
        ordered.extend(dead.iter().filter(|path| !listed.contains(*path)).cloned());
        if dead.is_empty() {
            return Ok(());
        }
        self.realisations(dead)?;
        for path in ordered.iter().rev() {
            self.delete(Path::new(&format!("{}.narinfo", path.digest())))?;
            self.delete(Path::new(&format!("{}.ls", path.digest())))?;
        }
        Ok(())
    }

    fn realisations(&mut self, dead: &BTreeSet<StorePath>) -> Result<()> {
        for name in names(&self.cache.root().join("realisations"))? {
            let Some(name) = name.to_str() else { continue };
            let id = name.strip_suffix(".doi").and_then(|id| id.parse::<RealisationId>().ok());
            let (Some(id), file) = (id, format!("realisations/{name}")) else { continue };
            let text = self.cache.read(&file, LARGEST_NARINFO)?.unwrap_or_default();
            if Realisation::parse(&id, &text).is_ok_and(|found| dead.contains(&found.output_path)) {
                self.delete(Path::new(&file))?;
            }
        }
        Ok(())
    }

    /// Deletes files of archives that nothing names any more, and listings of what is not there.
    fn unnamed(&mut self, contents: &Contents, dead: &BTreeSet<StorePath>) -> Result<()> {
        let (mut named, mut freed) = (HashSet::new(), HashSet::new());
        for (path, kept) in &contents.paths {
            let set = if dead.contains(path) { &mut freed } else { &mut named };
            set.extend(kept.file.as_deref());
        }
        for name in names(&self.cache.root().join("nar"))? {
            let file = Path::new("nar").join(name);
            if !named.contains(file.as_path()) && (freed.contains(file.as_path()) || self.is_ripe(&file)?) {
                self.delete(&file)?;
            }
        }
        let digests: HashSet<&str> = contents.paths.keys().map(StorePath::digest).collect();
        for name in names(self.cache.root())? {
            let digest = name.to_str().and_then(|name| name.strip_suffix(".ls"));
            let Some(digest) = digest else { continue };
            if !digests.contains(digest) && self.is_ripe(Path::new(&name))? {
                self.delete(Path::new(&name))?;
            }
        }
        Ok(())
    }

    /// Whether a file is old enough for nobody to be about to name it.
    fn is_ripe(&self, file: &Path) -> Result<bool> {
        let path = self.cache.root().join(file);
        let metadata = fs::symlink_metadata(&path).during("look at", &path)?;
        let modified = metadata.modified().during("look at", &path)?;
        Ok(metadata.is_file() && is_older(modified, self.options.grace, self.now))
    }

    /// Deletes a file of the cache, if it is there.
    fn delete(&mut self, file: &Path) -> Result<()> {
        let path = self.cache.root().join(file);
        let size = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).during("look at", &path),
        };
        if !self.options.dry_run {
            fs::remove_file(&path).during("remove", &path)?;
        }
        self.garbage.freed = self.garbage.freed.saturating_add(size);
        self.garbage.files.insert(file.to_owned());
        Ok(())
    }
}

fn is_older(time: SystemTime, limit: Duration, now: SystemTime) -> bool {
    // What comes from the future is young.
    now.duration_since(time).is_ok_and(|age| age >= limit)
}

/// A URL of a narinfo as a file of the cache; nothing if it leads elsewhere.
fn relative(url: &str) -> Option<PathBuf> {
    let path = Path::new(url);
    let is_below = path.components().all(|component| matches!(component, Component::Normal(_)));
    (is_below && !url.contains("://")).then(|| path.to_owned())
}
