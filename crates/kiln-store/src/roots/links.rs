//! Roots that are links: `gcroots` and `profiles` (local-store specification, section 8).
//!
//! Users may write into some of these directories, and all links to elsewhere lead to where they may. So the walk goes by
//! descriptors, its depth is bounded, and what can't be looked at is passed over: nobody's link may keep others from
//! collecting.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_fs::{Component, Directory, Kind, Stale};
use kiln_store_path::{StoreDir, StorePath};

use crate::error::Result;
use crate::roots::{Found, Holder, Root, is_of_the_machine};

/// How deep directories of roots may be nested.
const MAX_DEPTH: usize = 64;

/// Finds all such roots, whether they are valid or not. Stale are registered links that lead to nothing.
pub(crate) fn find(state: &Directory, store_dir: &StoreDir, stale: Stale) -> Result<Found> {
    let mut search =
        Search { store_dir, automatic: state.path().join("gcroots/auto"), stale, found: Found::default() };
    for name in ["gcroots", "profiles"] {
        let name = Component::new(name).map_err(kiln_fs::Error::from)?;
        match state.subdirectory(&name) {
            Ok(directory) => search.walk(directory)?,
            Err(error) if error.is_not_found() => {}
            // Without these nothing could be known to be dead.
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = search.found;
    // A link that is found by itself, such as the generation that a profile leads to, need not be told as another's target.
    let direct: HashSet<PathBuf> = found.roots.iter().filter_map(|root| direct_link(root).cloned()).collect();
    found
        .roots
        .retain(|root| !matches!(&root.holder, Holder::Indirect { link, .. } if direct.contains(link)));
    Ok(found)
}

fn direct_link(root: &Root) -> Option<&PathBuf> {
    match &root.holder {
        Holder::Direct(link) => Some(link),
        _ => None,
    }
}

struct Search<'a> {
    store_dir: &'a StoreDir,
    /// Links in here may be removed.
    automatic: PathBuf,
    stale: Stale,
    found: Found,
}

impl Search<'_> {
    fn walk(&mut self, root: Directory) -> Result<()> {
        let mut levels = Vec::new();
        self.enter(root, &mut levels)?;
        while let Some((directory, names)) = levels.last_mut() {
            let Some(name) = names.pop() else {
                levels.pop();
                continue;
            };
            match self.entry(directory, &name) {
                Err(error) if is_of_the_machine(error.os_error()) => return Err(error.into()),
                Ok(None) => {}
                Ok(Some(below)) if levels.len() < MAX_DEPTH => self.enter(below, &mut levels)?,
                Ok(Some(below)) => {
                    self.pass_over(format!("'{}' is nested too deeply", below.path().display()))
                }
                Err(error) => self.pass_over(error),
            }
        }
        Ok(())
    }

    fn enter(&mut self, directory: Directory, levels: &mut Vec<(Directory, Vec<Component>)>) -> Result<()> {
        match directory.names() {
            Ok(names) => levels.push((directory, names)),
            Err(error) if is_of_the_machine(error.os_error()) => return Err(error.into()),
            Err(error) => self.pass_over(error),
        }
        Ok(())
    }

    fn pass_over(&mut self, reason: impl std::fmt::Display) {
        self.found.warnings.push(format!("passing over roots: {reason}"));
    }

    /// Looks at one entry; returns it if it is a directory.
    fn entry(
        &mut self,
        directory: &Directory,
        name: &Component,
    ) -> Result<Option<Directory>, kiln_fs::Error> {
        match directory.status(name)?.map(|status| status.kind) {
            Some(Kind::Directory) => return directory.subdirectory(name).map(Some),
            Some(Kind::Symlink) => {
                let target = directory.read_link(name)?;
                let place = directory.path_of(name);
                match self.store_dir.split(&target) {
                    Ok((path, _)) => self.add(path, Holder::Direct(place)),
                    Err(_) => self.follow(directory, name, place, &target),
                }
            }
            Some(Kind::Regular) => {
                if let Ok(path) = StorePath::from_base_name(name.as_bytes()) {
                    self.add(path, Holder::Direct(directory.path_of(name)));
                }
            }
            Some(Kind::Other(_)) | None => {}
        }
        Ok(None)
    }

    /// Looks at what a link leads to: one step, no further.
    fn follow(&mut self, directory: &Directory, name: &Component, registered: PathBuf, target: &[u8]) {
        let link = directory.path().join(Path::new(OsStr::from_bytes(target)));
        let looked_at = fs::symlink_metadata(&link).and_then(|metadata| {
            if metadata.is_symlink() { fs::read_link(&link).map(Some) } else { Ok(None) }
        });
        match looked_at {
            Ok(Some(target)) => {
                if let Ok((path, _)) = self.store_dir.split(target.as_os_str().as_bytes()) {
                    self.add(path, Holder::Indirect { link, registered });
                }
            }
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                if self.stale == Stale::Remove
                    && directory.path() == self.automatic
                    && let Err(error) = directory.remove_file(name)
                {
                    self.pass_over(error);
                }
            }
            Err(error) => self.pass_over(format!("cannot look at '{}': {error}", link.display())),
        }
    }

    fn add(&mut self, path: StorePath, holder: Holder) {
        self.found.roots.push(Root { path, holder });
    }
}
