//! From the entries of an archive to files.

use super::TarError;
use super::entries::{Entries, Entry, Kind};
use kiln_fs::{Component, Directory};
use kiln_nar::MAX_DEPTH;
use rustix::fs::AtFlags;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write as _};

/// Makes in `root` what is in the archive, and returns the names of what is at its top, but not more than two of them.
///
/// Directories that the archive doesn't mention are made; files and links that come again replace what is there. Nothing
/// is made through a link, whoever made it.
pub(crate) fn unpack(archive: impl Read, root: &Directory) -> Result<BTreeSet<Vec<u8>>, TarError> {
    let mut entries = Entries::new(archive);
    let mut tree = Tree { root, way: Vec::new(), top: BTreeSet::new() };
    while let Some(entry) = entries.next()? {
        tree.make(&entry, &mut entries)?;
    }
    Ok(tree.top)
}

/// The tree that is being made.
struct Tree<'a> {
    root: &'a Directory,
    /// The directories down to the one that something was made in last: mostly the next thing is made there too.
    way: Vec<(Component, Directory)>,
    top: BTreeSet<Vec<u8>>,
}

impl Tree<'_> {
    fn make(&mut self, entry: &Entry, entries: &mut Entries<impl Read>) -> Result<(), TarError> {
        let mut components = components(&entry.path)?;
        if let Some(top) = components.first()
            && self.top.len() < 2
        {
            self.top.insert(top.as_bytes().to_vec());
        }
        if entry.kind == Kind::Directory {
            return self.go_to(&components, true);
        }
        let Some(name) = components.pop() else {
            return Err(TarError::invalid_name(&entry.path, "it is the archive itself"));
        };
        self.go_to(&components, true)?;
        let directory = self.last();
        match &entry.kind {
            Kind::Directory => Ok(()),
            Kind::Regular { executable } => {
                let mode = if *executable { 0o777 } else { 0o666 };
                let mut file = replacing(directory, &name, || directory.create_file(&name, mode))?;
                write_contents(entries, &mut file, || directory.path_of(&name))
            }
            Kind::Symlink(target) => {
                Ok(replacing(directory, &name, || directory.create_symlink(&name, target))?)
            }
            Kind::HardLink(target) => {
                let directory = directory.try_clone()?;
                self.link(&entry.path, target, &directory, &name)
            }
        }
    }

    /// Gives the file at `target` in the tree another name.
    fn link(
        &mut self,
        path: &[u8],
        target: &[u8],
        directory: &Directory,
        name: &Component,
    ) -> Result<(), TarError> {
        let no_file = || TarError::invalid_name(path, "it is a hard link to what is no file in the archive");
        let mut components = components(target)?;
        let target_name = components.pop().ok_or_else(no_file)?;
        self.go_to(&components, false)?;
        let target_directory = self.last();
        let status = target_directory.status(&target_name)?.ok_or_else(no_file)?;
        if status.kind != kiln_fs::Kind::Regular {
            return Err(no_file());
        }
        if directory.status(name)?.is_some_and(|present| present.identity == status.identity) {
            return Ok(());
        }
        let link = || {
            let (from, to) = (target_name.as_path(), name.as_path());
            rustix::fs::linkat(target_directory, from, directory, to, AtFlags::empty()).map_err(|error| {
                kiln_fs::Error::System {
                    action: "create hard link",
                    path: directory.path_of(name),
                    source: error.into(),
                }
            })
        };
        Ok(replacing(directory, name, link)?)
    }

    /// Opens the directories on the way to `path`, and makes those that aren't there if `make` is set.
    fn go_to(&mut self, path: &[Component], make: bool) -> Result<(), TarError> {
        let known = self.way.iter().zip(path).take_while(|((name, _), wanted)| name == *wanted).count();
        self.way.truncate(known);
        for name in path.iter().skip(known) {
            let parent = self.last();
            let directory = match parent.subdirectory(name) {
                Err(error) if error.is_not_found() && make => parent.create_directory(name, 0o777)?,
                result => result?,
            };
            self.way.push((name.clone(), directory));
        }
        Ok(())
    }

    /// The directory that was gone to last.
    fn last(&self) -> &Directory {
        self.way.last().map_or(self.root, |(_, directory)| directory)
    }
}

/// The names on the way to `path` in an archive; none if it is the top itself.
fn components(path: &[u8]) -> Result<Vec<Component>, TarError> {
    if path.starts_with(b"/") {
        return Err(TarError::invalid_name(path, "it is absolute"));
    }
    let mut components = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(TarError::invalid_name(path, "it leads out of the archive")),
            _ if components.len() == MAX_DEPTH => {
                return Err(TarError::invalid_name(path, "it is nested too deeply"));
            }
            name => components
                .push(Component::new(name).map_err(|_| TarError::invalid_name(path, "no file can have it"))?),
        }
    }
    Ok(components)
}

/// Makes something, in place of what may have its name.
fn replacing<T>(
    directory: &Directory,
    name: &Component,
    make: impl Fn() -> kiln_fs::Result<T>,
) -> kiln_fs::Result<T> {
    match make() {
        Err(error) if error.already_exists() => {
            directory.remove_file(name)?;
            make()
        }
        result => result,
    }
}

fn write_contents(
    entries: &mut Entries<impl Read>,
    file: &mut File,
    path: impl Fn() -> std::path::PathBuf,
) -> Result<(), TarError> {
    loop {
        let chunk = entries.contents()?;
        if chunk.is_empty() {
            return Ok(());
        }
        file.write_all(chunk).map_err(|source| kiln_fs::Error::System {
            action: "write to",
            path: path(),
            source,
        })?;
    }
}
