//! The tree of links, while it is being put together.
//!
//! A directory that only one package has is a link to that package's. As soon as another package has it too, the link
//! becomes a directory with links to what is in both, and so on further down.

use crate::error::{BuiltinError, During as _};
use crate::log::Log;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What is left out: useless in an environment, or in everybody's way, as each package has it. All are ends of paths.
const SKIPPED: &[&[u8]] = &[
    b"/propagated-build-inputs",
    b"/nix-support",
    b"/perllocal.pod",
    b"/info/dir",
    b"/log",
    b"/manifest.nix",
    b"/manifest.json",
];

/// An environment.
pub(super) struct Forest {
    out: PathBuf,
    /// The first is the environment itself; the others are entries of ones before them.
    directories: Vec<Directory>,
}

type Directory = BTreeMap<OsString, Node>;

#[derive(Clone, Debug)]
enum Node {
    /// A link to something in the package of this priority.
    Link { target: PathBuf, priority: i64 },
    /// Index of a directory of several packages.
    Directory(usize),
}

/// A directory of a package that is to be shown in one of the environment.
struct Visit {
    source: PathBuf,
    /// Index of the directory of the environment.
    directory: usize,
    /// Its path.
    destination: PathBuf,
    priority: i64,
}

impl Forest {
    /// An empty environment that will be written to `out`.
    pub(super) fn new(out: PathBuf) -> Self {
        Self { out, directories: vec![Directory::new()] }
    }

    /// Shows the package at `package` in the environment.
    pub(super) fn add(
        &mut self,
        package: &Path,
        priority: i64,
        log: &mut Log<'_>,
    ) -> Result<(), BuiltinError> {
        let (source, destination) = (package.to_path_buf(), self.out.clone());
        let mut visits = vec![Visit { source, directory: 0, destination, priority }];
        while let Some(visit) = visits.pop() {
            let Some(names) = names_in(&visit.source)? else {
                log.warn(&format!(
                    "not including '{}' in the user environment because it's not a directory",
                    visit.source.display()
                ));
                continue;
            };
            for name in names {
                self.add_entry(&visit, name, &mut visits, log)?;
            }
        }
        Ok(())
    }

    fn add_entry(
        &mut self,
        visit: &Visit,
        name: OsString,
        visits: &mut Vec<Visit>,
        log: &mut Log<'_>,
    ) -> Result<(), BuiltinError> {
        let source = visit.source.join(&name);
        let destination = visit.destination.join(&name);
        let is_directory = match fs::metadata(&source) {
            Ok(metadata) => metadata.is_dir(),
            Err(error) if is_absent(&error) => {
                log.warn(&format!("skipping dangling symlink '{}'", destination.display()));
                return Ok(());
            }
            Err(error) => return Err(error).during("look at", &source),
        };
        if SKIPPED.iter().any(|end| source.as_os_str().as_bytes().ends_with(end)) {
            return Ok(());
        }
        let next_directory = self.directories.len();
        let Some(directory) = self.directories.get_mut(visit.directory) else { return Ok(()) };
        let new = Node::Link { target: source.clone(), priority: visit.priority };
        let mut present = match directory.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                return Ok(());
            }
            Entry::Occupied(present) => present,
        };
        match (is_directory, present.get().clone()) {
            (true, Node::Directory(directory)) => {
                visits.push(Visit { source, directory, destination, priority: visit.priority });
            }
            (true, Node::Link { target, priority }) => {
                let other = fs::canonicalize(&target).during("resolve", &target)?;
                if !other.is_dir() {
                    return Err(BuiltinError::DirectoryOverFile { directory: source, other });
                }
                present.insert(Node::Directory(next_directory));
                self.directories.push(Directory::new());
                let visit_of = |source, priority| Visit {
                    source,
                    directory: next_directory,
                    destination: destination.clone(),
                    priority,
                };
                // The last is visited first: what was there before keeps its place.
                visits.push(visit_of(source, visit.priority));
                visits.push(visit_of(other, priority));
            }
            (false, Node::Link { target, priority }) => {
                if priority == visit.priority {
                    return Err(BuiltinError::SamePriority { file: source, present: target, priority });
                }
                if priority > visit.priority {
                    present.insert(new);
                }
            }
            (false, Node::Directory(_)) => {
                return Err(BuiltinError::FileOverDirectory { file: source, directory: destination });
            }
        }
        Ok(())
    }

    /// Writes the environment to its place, which has to be an empty directory.
    pub(super) fn write(self) -> Result<(), BuiltinError> {
        let mut directories = self.directories;
        let mut open = vec![(self.out, 0)];
        while let Some((path, index)) = open.pop() {
            let entries = directories.get_mut(index).map(std::mem::take).unwrap_or_default();
            for (name, node) in entries {
                let path = path.join(name);
                match node {
                    Node::Link { target, .. } => symlink(target, &path).during("create symlink", &path)?,
                    Node::Directory(index) => {
                        fs::create_dir(&path).during("create directory", &path)?;
                        open.push((path, index));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The names in a directory, in order, without hidden ones; nothing if it isn't a directory.
fn names_in(directory: &Path) -> Result<Option<Vec<OsString>>, BuiltinError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        entries => entries.during("open directory", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.during("read directory", directory)?.file_name();
        if !is_hidden(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(Some(names))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().first() == Some(&b'.')
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
