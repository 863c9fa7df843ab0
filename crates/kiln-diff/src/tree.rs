//! The way through two trees at once, in the order of archives, by descriptors, never through a link.
//!
//! It isn't recursive: the pairs of directories on the way are a stack of at most [`Limits::depth`] levels.

use crate::byte_string::ByteString;
use crate::comparison::{compare, describe};
use crate::contents::{Contents, OpenFile, Windows};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::listing::Listing;
use crate::pair::{Pair, Side};
use crate::report::content::ContentDifference;
use crate::report::{Change, Difference, NodeKind, Obstacle, Report};
use crate::subtree::count_below;
use kiln_fs::{Component, Directory, Kind, Status};
use rustix::fs::{Mode, OFlags};
use std::cmp::Ordering;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

/// How files are opened: never through a link, and not waiting for the writer of a pipe.
const OPEN_FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// Compares two trees, each given as a name in an open directory. They may be directories, files or links.
///
/// # Errors
/// If a root isn't there or can't be looked at. What can't be compared below the roots is part of the report.
pub fn compare_trees(
    a: (&Directory, &Component),
    b: (&Directory, &Component),
    limits: &Limits,
) -> Result<Report> {
    let roots = Pair::new(a, b);
    let paths = roots.map(|(directory, name)| directory.path_of(name));
    let statuses = roots.try_map(|(directory, name)| {
        directory.status(name)?.ok_or_else(|| Error::Missing(directory.path_of(name)))
    })?;
    let roots = roots.map(|(directory, name)| Place { directory, name });
    let mut comparer = Comparer {
        limits,
        report: Report::new(paths.map(|path| path.as_os_str().as_bytes().into())),
        windows: Windows::new(),
        path: Vec::new(),
        held: 0,
    };
    comparer.trees(roots, statuses);
    Ok(comparer.report)
}

/// Something in an open directory.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: &'a Directory,
    name: &'a Component,
}

/// A pair of directories on the way.
struct Level {
    directories: Pair<Directory>,
    listings: Pair<Listing>,
    /// Index of the next entry of each.
    next: Pair<usize>,
    /// Length of the path of the directories that these are in.
    parent_path: usize,
}

/// The next entry of a pair of directories.
struct Next {
    name: Component,
    /// Where it is; nothing for both.
    only: Option<Side>,
}

impl Level {
    /// The next entry, after which comes the one after that; nothing at the end.
    fn advance(&mut self) -> Option<Next> {
        let order = match (self.listings.a.get(self.next.a), self.listings.b.get(self.next.b)) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        };
        let (listing, index) = match order {
            Ordering::Greater => (&self.listings.b, self.next.b),
            _ => (&self.listings.a, self.next.a),
        };
        let name = listing.component(index)?;
        self.next.a += usize::from(order.is_le());
        self.next.b += usize::from(order.is_ge());
        let only = match order {
            Ordering::Less => Some(Side::A),
            Ordering::Equal => None,
            Ordering::Greater => Some(Side::B),
        };
        Some(Next { name, only })
    }
}

struct Comparer<'a> {
    limits: &'a Limits,
    report: Report,
    windows: Windows,
    /// Path of what is being compared, from the roots.
    path: Vec<u8>,
    /// How many names the levels hold.
    held: usize,
}

impl Comparer<'_> {
    fn trees(&mut self, roots: Pair<Place<'_>>, statuses: Pair<Status>) {
        let mut levels = Vec::new();
        levels.extend(self.node(roots, statuses, 0, 0));
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { break };
            let Some(next) = level.advance() else {
                self.held -= level.listings.a.len() + level.listings.b.len();
                self.path.truncate(level.parent_path);
                levels.pop();
                continue;
            };
            let parent_path = self.path.len();
            if parent_path > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(next.name.as_bytes());
            let below = self.entry(&level.directories, &next, depth, parent_path);
            match below {
                Some(level) => levels.push(level),
                None => self.path.truncate(parent_path),
            }
        }
    }

    /// Compares an entry of a pair of directories. If it is a directory on both sides, that comes next.
    fn entry(
        &mut self,
        directories: &Pair<Directory>,
        next: &Next,
        depth: usize,
        parent_path: usize,
    ) -> Option<Level> {
        let places = directories.as_ref().map(|directory| Place { directory, name: &next.name });
        match next.only {
            Some(Side::A) => self.only_in(Side::A, places.a),
            Some(Side::B) => self.only_in(Side::B, places.b),
            None => match places.try_map(status_of) {
                Ok(statuses) => return self.node(places, statuses, depth, parent_path),
                Err(obstacle) => self.not_compared(obstacle),
            },
        }
        None
    }

    /// Compares what is on both sides. If it is a directory on both, that comes next.
    fn node(
        &mut self,
        places: Pair<Place<'_>>,
        statuses: Pair<Status>,
        depth: usize,
        parent_path: usize,
    ) -> Option<Level> {
        let nodes = statuses.map(|status| NodeKind::from(status.kind));
        if !nodes.are_equal() {
            self.report.totals.compared += 1;
            self.add(Change::Type { nodes });
            return None;
        }
        // What is one and the same on both sides, as in a store whose files are shared, doesn't differ.
        if statuses.map(|status| status.identity).are_equal() {
            self.report.totals.compared += 1;
            return None;
        }
        let compared = match statuses.a.kind {
            Kind::Regular => self.files(places),
            Kind::Symlink => self.links(places),
            Kind::Directory => match self.directories(places, depth, parent_path) {
                Ok(level) => {
                    self.report.totals.compared += 1;
                    return Some(level);
                }
                Err(obstacle) => Err(obstacle),
            },
            Kind::Other(_) => Err(Obstacle::SpecialFile { node: nodes.a }),
        };
        match compared {
            Ok(()) => self.report.totals.compared += 1,
            Err(obstacle) => self.not_compared(obstacle),
        }
        None
    }

    fn directories(
        &mut self,
        places: Pair<Place<'_>>,
        depth: usize,
        parent_path: usize,
    ) -> Result<Level, Obstacle> {
        if depth >= self.limits.depth {
            return Err(Obstacle::TooDeep);
        }
        let directories = places
            .try_map(|place| place.directory.subdirectory(place.name).map_err(|error| unreadable(&error)))?;
        let mut held = self.held;
        let listings = directories.as_ref().try_map(|directory| {
            let listing = Listing::read(directory, self.limits.entries.saturating_sub(held))
                .map_err(|error| unreadable(&io::Error::from(error)))?
                .ok_or(Obstacle::TooManyEntries)?;
            held += listing.len();
            Ok(listing)
        })?;
        self.held = held;
        Ok(Level { directories, listings, next: Pair::default(), parent_path })
    }

    fn links(&mut self, places: Pair<Place<'_>>) -> Result<(), Obstacle> {
        let targets = places
            .try_map(|place| place.directory.read_link(place.name).map_err(|error| unreadable(&error)))?;
        if !targets.are_equal() {
            self.add(Change::Target { targets: targets.map(ByteString) });
        }
        Ok(())
    }

    fn files(&mut self, places: Pair<Place<'_>>) -> Result<(), Obstacle> {
        let opened = places.try_map(open_file)?;
        let executable = opened.as_ref().map(|(_, metadata)| metadata.mode() & 0o100 != 0);
        if !executable.are_equal() {
            self.add(Change::Executable { executable });
        }
        let files = opened.map(|(file, metadata)| OpenFile::new(file, metadata.len()));
        let contents = Pair::new(&files.a as &dyn Contents, &files.b as &dyn Contents);
        if let Some(difference) = self.contents(contents).map_err(|error| not_read(&error))? {
            self.add(Change::Contents(Box::new(difference)));
        }
        Ok(())
    }

    /// Compares files: wholly if that is going to be listed, else only up to the first difference.
    fn contents(&mut self, contents: Pair<&dyn Contents>) -> io::Result<Option<ContentDifference>> {
        if !self.is_full() {
            let name = self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            return describe(name, contents, self.limits, &mut self.windows);
        }
        let sizes = contents.map(|contents| contents.length());
        if !sizes.are_equal() || compare(contents, 0, &mut self.windows)?.is_some() {
            self.report.totals.differences += 1;
            self.report.totals.contents += 1;
        }
        Ok(None)
    }

    fn only_in(&mut self, side: Side, place: Place<'_>) {
        let (node, size) = match place.directory.status(place.name) {
            Ok(Some(status)) => {
                (NodeKind::from(status.kind), (status.kind == Kind::Regular).then_some(status.size))
            }
            _ => (NodeKind::Unknown, None),
        };
        let below = if node == NodeKind::Directory && !self.is_full() {
            count_below(place.directory, place.name, self.limits, self.held)
        } else {
            Default::default()
        };
        self.add(Change::OnlyIn { side, node, size, below: below.entries, more: below.more });
    }

    fn not_compared(&mut self, obstacle: Obstacle) {
        self.add(Change::NotCompared { obstacle });
    }

    /// Whether no more differences are listed.
    fn is_full(&self) -> bool {
        self.report.differences.len() >= self.limits.differences
    }

    fn add(&mut self, change: Change) {
        self.report.count(&change);
        if !self.is_full() {
            self.report.totals.listed += 1;
            self.report.differences.push(Difference { path: (&self.path).into(), change });
        }
    }
}

fn status_of(place: Place<'_>) -> Result<Status, Obstacle> {
    match place.directory.status(place.name) {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(Obstacle::Changed),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Opens what was a regular file a moment before.
fn open_file(place: Place<'_>) -> Result<(File, Metadata), Obstacle> {
    let fd = rustix::fs::openat(place.directory, place.name.as_path(), OPEN_FILE, Mode::empty())
        .map_err(|error| unreadable(&io::Error::from(error)))?;
    let file = File::from(fd);
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(Obstacle::Changed) }
}

fn unreadable(error: &dyn std::error::Error) -> Obstacle {
    Obstacle::Unreadable { message: error.to_string().into() }
}

fn not_read(error: &io::Error) -> Obstacle {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Obstacle::Changed,
        _ => unreadable(error),
    }
}
