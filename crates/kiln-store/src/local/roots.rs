//! Permanent roots: links that keep paths from being collected (local-store specification, section 8).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_hash::{Algorithm, Hash};
use kiln_store_path::{StoreDir, StorePath};

use crate::blocking::waiting;
use crate::error::{During, Error, Result};
use crate::local::LocalStore;

impl LocalStore {
    /// Makes `link` a link to a path and registers it as an indirect root: as long as it is there and points into the store,
    /// the path is kept. The path should be a temporary root until this is done.
    ///
    /// # Errors
    /// There is something other than a link into the store in that place, or it cannot be written.
    pub async fn add_out_link(&self, link: &Path, path: &StorePath) -> Result<()> {
        let (link, path) = (link.to_owned(), path.clone());
        self.wait(move |store| {
            let link = replace_out_link(store.store_dir(), &link, &path)?;
            store.register_indirect_root(&link)?;
            store.announce(&path)
        })
        .await
    }

    /// Registers a link that the caller has made as an indirect root.
    ///
    /// # Errors
    /// The registration cannot be written.
    pub async fn add_indirect_root(&self, link: &Path) -> Result<()> {
        let link = absolute_path(link)?;
        self.wait(move |store| {
            store.register_indirect_root(&link)?;
            let target = fs::read_link(&link).unwrap_or_default();
            match store.store_dir().split(target.as_os_str().as_bytes()) {
                Ok((path, _)) => store.announce(&path),
                // It is no root, as yet.
                Err(_) => Ok(()),
            }
        })
        .await
    }

    /// Makes a link below the directory of roots.
    ///
    /// # Errors
    /// The link is to be elsewhere, or it cannot be written.
    pub async fn add_permanent_root(&self, link: &Path, path: &StorePath) -> Result<()> {
        let (link, target) = (absolute_path(link)?, PathBuf::from(self.print(path)));
        let roots = self.config().locations.state_dir.join("gcroots");
        if !link.starts_with(&roots) {
            return Err(Error::RootOutside { path: link, roots });
        }
        let path = path.clone();
        self.wait(move |store| {
            if let Some(parent) = link.parent() {
                fs::create_dir_all(parent).during("create directory", parent)?;
            }
            replace_link(&link, &target)?;
            store.announce(&path)
        })
        .await
    }

    /// Tells a running collector of a root that it may have looked for in vain.
    fn announce(&self, path: &StorePath) -> Result<()> {
        match &self.1 {
            Some(roots) => roots.announce(self.print(path)),
            None => Ok(()),
        }
    }

    /// Runs work that may have to wait for a collector.
    async fn wait<F>(&self, work: F) -> Result<()>
    where
        F: FnOnce(&Self) -> Result<()> + Send + 'static,
    {
        let store = self.clone();
        waiting(move || work(&store)).await
    }

    /// `gcroots/auto/HASH` → the link, the hash being that of the link's path.
    fn register_indirect_root(&self, link: &Path) -> Result<()> {
        let directory = self.config().locations.state_dir.join("gcroots").join("auto");
        fs::create_dir_all(&directory).during("create directory", &directory)?;
        let name = Hash::of(Algorithm::Sha1, link.as_os_str().as_bytes()).nix32();
        replace_link(&directory.join(name), link)
    }
}

/// The path with the working directory before it and `.` and `..` resolved in the text, as Nix names paths: the names of
/// indirect roots are hashes of such texts.
///
/// # Errors
/// The path is empty, or there is no working directory.
pub fn absolute_path(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).during("resolve", path)?;
    let mut canonical = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                canonical.pop();
            }
            component => canonical.push(component),
        }
    }
    Ok(canonical)
}

/// Makes `link` a link to a path, in place of another link into the store, and returns its absolute path. Nothing is a root by
/// that alone. Blocks.
///
/// # Errors
/// There is something other than a link into the store in that place, or it cannot be written.
pub fn replace_out_link(store_dir: &StoreDir, link: &Path, path: &StorePath) -> Result<PathBuf> {
    let link = absolute_path(link)?;
    match fs::read_link(&link) {
        Ok(old) if !old.starts_with(store_dir.as_str()) => return Err(Error::RootOccupied(link)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => return Err(Error::RootOccupied(link)),
    }
    replace_link(&link, Path::new(&store_dir.print(path)))?;
    Ok(link)
}

/// Makes a link at once in place of another: somebody who looks sees the old or the new one.
fn replace_link(link: &Path, target: &Path) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut scratch = link.as_os_str().to_owned();
    scratch.push(format!(".tmp-{}-{number}", std::process::id()));
    let scratch = PathBuf::from(scratch);
    // Left behind by a process of the same number that was killed.
    let _ = fs::remove_file(&scratch);
    symlink(target, &scratch).during("create symlink", &scratch)?;
    fs::rename(&scratch, link).inspect_err(|_| drop(fs::remove_file(&scratch))).during("create symlink", link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_indirect_roots_are_those_of_nix() {
        assert_eq!(Hash::of(Algorithm::Sha1, b"/tmp/result").nix32(), "g2xrwb4h5qd18ndrzrgyp3lsmjbw4dks");
    }

    #[test]
    fn links_are_named_by_their_text() {
        assert_eq!(absolute_path(Path::new("/a/./b/../result")).unwrap(), Path::new("/a/result"));
        assert!(absolute_path(Path::new("result")).unwrap().ends_with("result"));
    }
}
