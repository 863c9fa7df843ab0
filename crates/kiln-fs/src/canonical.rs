//! The canonical form of a tree on disk: what is left of a file's metadata in a store.
//!
//! Owner and group are the engine's, permissions 0444 or 0555, the time of modification is one second after the epoch,
//! and extended attributes (access control lists and capabilities among them) are gone. Whatever isn't a regular file, a
//! directory or a symbolic link is refused.
//!
//! The tree may have been made by a hostile build. So everything is done on descriptors; whose a file is is checked
//! before it is touched; and it gets its new owner first of all, after which the build user has no more rights on it.

mod copy;

use crate::component::Component;
use crate::directory::{Directory, path_of_descriptor};
use crate::error::{During as _, Error, Result};
use crate::status::{Identity, Kind, Status};
use crate::walk::{Place, Visitor, walk};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Time of modification of everything in a store, in seconds since 1970.
pub const CANONICAL_TIME: i64 = 1;

/// Extended attributes that are left alone unless the setting `ignored-acls` says otherwise.
pub const IGNORED_ATTRIBUTES: [&str; 3] = ["security.csm", "security.selinux", "system.nfs4_acl"];

/// Whose files are to be, and whose they may be before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// Owner of everything in the store.
    pub uid: u32,
    /// Group of everything in the store.
    pub gid: u32,
    /// Of a build's outputs, the users that may own them: those of the build. `None` if the build has no user of its own.
    pub builder: Option<RangeInclusive<u32>>,
}

impl Ownership {
    /// Everything is to be this process's; there is no build user.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            builder: None,
        }
    }

    /// The same for the outputs of a build that has run as one of `users`.
    #[must_use]
    pub fn built_by(mut self, users: RangeInclusive<u32>) -> Self {
        self.builder = Some(users);
        self
    }
}

/// What is done with files that have several hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardLinks {
    /// They are taken as they are: the tree was made by the engine itself.
    Accept,
    /// They are replaced by copies that have one link: the tree was made by a build without a user of its own, which can link
    /// to whatever its user has.
    Copy,
    /// They are taken if all their links are in the trees that were canonicalised together.
    Refuse,
}

/// A file with several links of which not all have been seen.
#[derive(Debug)]
struct Linked {
    found: u64,
    links: u64,
    /// The least of those where it was seen.
    path: PathBuf,
}

/// Makes trees canonical. One value is used for all outputs of a build, as they may have hard links in common; or one that
/// [shares](Self::share) its links with the others' for each, to do them at the same time.
#[derive(Debug)]
pub struct Canonicaliser {
    rules: Rules,
    hard_links: HardLinks,
    linked: Arc<Mutex<HashMap<Identity, Linked>>>,
}

/// What can be said of each file for itself.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    ownership: Ownership,
    ignored_attributes: Vec<Vec<u8>>,
}

impl Canonicaliser {
    /// With the usual attributes left alone. Hard links are [refused](HardLinks::Refuse) if the build had a user of its
    /// own, else [copied](HardLinks::Copy).
    #[must_use]
    pub fn new(ownership: Ownership) -> Self {
        Self {
            hard_links: if ownership.builder.is_some() { HardLinks::Refuse } else { HardLinks::Copy },
            rules: Rules {
                ownership,
                ignored_attributes: IGNORED_ATTRIBUTES.iter().map(|name| name.as_bytes().to_vec()).collect(),
            },
            linked: Arc::default(),
        }
    }

    /// Another one for trees of the same build, which may be made canonical on another thread meanwhile.
    #[must_use]
    pub fn share(&self) -> Self {
        let (rules, hard_links, linked) = (self.rules.clone(), self.hard_links, Arc::clone(&self.linked));
        Self { rules, hard_links, linked }
    }

    /// Says what is done with files that have several hard links.
    #[must_use]
    pub fn hard_links(mut self, hard_links: HardLinks) -> Self {
        self.hard_links = hard_links;
        self
    }

    /// Says which extended attributes are left alone (setting `ignored-acls`).
    #[must_use]
    pub fn ignore_attributes(mut self, names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.rules.ignored_attributes = names.into_iter().map(|name| name.as_ref().to_vec()).collect();
        self
    }

    /// Makes the tree `name` in `directory` canonical.
    ///
    /// # Errors
    /// The first thing that can't be made so; the tree may be canonical in parts then.
    pub fn canonicalise(&mut self, directory: &Directory, name: &Component) -> Result<()> {
        let path = directory.path().as_os_str().as_bytes();
        walk(&Place::new(directory.as_fd(), name.as_c_str(), path), &mut MetadataOnly(self))
    }

    /// Says that all trees have come, those of all who share the links.
    ///
    /// # Errors
    /// If hard links are refused, and a file has links elsewhere.
    pub fn finish(&self) -> Result<()> {
        let seen = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let outside = seen.values().filter(|linked| linked.found < linked.links);
        match outside.min_by_key(|linked| &linked.path) {
            None => Ok(()),
            Some(Linked { found, links, path }) => {
                Err(Error::LinkedOutside { path: path.clone(), found: *found, links: *links })
            }
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Opens a regular file for reading and makes it canonical.
    pub(crate) fn regular(&mut self, place: &Place<'_>) -> Result<(OwnedFd, Status)> {
        let (mut file, mut status) = open_granted(place)?;
        if status.links > 1 {
            match self.hard_links {
                HardLinks::Accept => {}
                HardLinks::Copy => (file, status) = copy::file(place, file.as_fd(), &status)?,
                HardLinks::Refuse => {
                    if self.seen_before(place, &status)? {
                        return Ok((file, status));
                    }
                }
            }
        }
        self.rules.settle_file(place, file.as_fd(), &status)?;
        Ok((file, status))
    }

    /// Makes an open directory canonical.
    pub(crate) fn directory(&mut self, place: &Place<'_>, directory: BorrowedFd<'_>) -> Result<()> {
        let status = Status::of(directory).during("look at", || place.path())?;
        self.rules.settle(place, directory, &status, 0o555)
    }

    /// Makes a symbolic link canonical and gives its target.
    pub(crate) fn symlink(&mut self, place: &Place<'_>) -> Result<Vec<u8>> {
        let (mut link, mut status) = place.open_link()?;
        let target = rustix::fs::readlinkat(&link, c"", Vec::new())
            .during("read symlink", || place.path())?
            .into_bytes();
        if status.links > 1 {
            match self.hard_links {
                HardLinks::Accept => {}
                HardLinks::Copy => (link, status) = copy::symlink(place, &target)?,
                HardLinks::Refuse => {
                    if self.seen_before(place, &status)? {
                        return Ok(target);
                    }
                }
            }
        }
        self.rules.settle_link(place, link.as_fd(), &status)?;
        Ok(target)
    }

    /// Counts the links of a file that has several. One seen before has been made canonical, or is right now: what is said
    /// of it in an archive stays the same meanwhile.
    fn seen_before(&mut self, place: &Place<'_>, status: &Status) -> Result<bool> {
        let mut seen = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(linked) = seen.get_mut(&status.identity) {
            linked.found += 1;
            linked.links = linked.links.max(status.links);
            // Not by which thread was first.
            linked.path = std::mem::take(&mut linked.path).min(place.path());
            return Ok(true);
        }
        self.rules.check_owner(place, status)?;
        seen.insert(status.identity, Linked { found: 1, links: status.links, path: place.path() });
        Ok(false)
    }
}

/// Opens a regular file for reading, with the right to if need be.
fn open_granted(place: &Place<'_>) -> Result<(OwnedFd, Status)> {
    match place.open_file() {
        Err(Error::System { source, .. })
            if Errno::from_io_error(&source) == Some(Errno::ACCESS)
                && place.grant(Kind::Regular, 0o400)? =>
        {
            place.open_file()
        }
        result => result,
    }
}

impl Rules {
    /// Opens a regular file and makes it canonical, if it has one link only.
    pub(crate) fn single_file(&self, place: &Place<'_>) -> Result<Option<(OwnedFd, Status)>> {
        let (file, status) = open_granted(place)?;
        if status.links > 1 {
            return Ok(None);
        }
        self.settle_file(place, file.as_fd(), &status)?;
        Ok(Some((file, status)))
    }

    fn settle_file(&self, place: &Place<'_>, file: BorrowedFd<'_>, status: &Status) -> Result<()> {
        let executable = status.permissions & 0o100 != 0;
        self.settle(place, file, status, if executable { 0o555 } else { 0o444 })
    }

    /// Owner, attributes, permissions, time of an open file or directory; the owner first.
    fn settle(
        &self,
        place: &Place<'_>,
        file: BorrowedFd<'_>,
        status: &Status,
        permissions: u32,
    ) -> Result<()> {
        self.check_owner(place, status)?;
        let foreign = self.is_foreign(status);
        if foreign {
            rustix::fs::fchown(file, Some(self.uid()), Some(self.gid()))
                .during("change the owner of", || place.path())?;
        }
        let touched = self.strip(place, file, status)?;
        // A former owner may have changed the permissions until a moment ago.
        if foreign || touched || status.permissions != permissions {
            rustix::fs::fchmod(file, Mode::from_raw_mode(permissions))
                .during("change the permissions of", || place.path())?;
        }
        if foreign || status.modified != (CANONICAL_TIME, 0) {
            rustix::fs::futimens(file, &canonical_times()).during("set the time of", || place.path())?;
        }
        Ok(())
    }

    /// The same for a symbolic link that is open as a place, as far as links have these things.
    fn settle_link(&self, place: &Place<'_>, link: BorrowedFd<'_>, status: &Status) -> Result<()> {
        self.check_owner(place, status)?;
        let foreign = self.is_foreign(status);
        if foreign {
            rustix::fs::chownat(link, c"", Some(self.uid()), Some(self.gid()), AtFlags::EMPTY_PATH)
                .during("change the owner of", || place.path())?;
        }
        self.strip_link(place, link)?;
        if foreign || status.modified != (CANONICAL_TIME, 0) {
            rustix::fs::utimensat(link, c"", &canonical_times(), AtFlags::EMPTY_PATH)
                .during("set the time of", || place.path())?;
        }
        Ok(())
    }

    /// Removes extended attributes; returns whether the permissions were changed for it.
    fn strip(&self, place: &Place<'_>, file: BorrowedFd<'_>, status: &Status) -> Result<bool> {
        let mut touched = false;
        for name in self.attributes_to_remove(|buffer| rustix::fs::flistxattr(file, buffer), place)? {
            let mut result = rustix::fs::fremovexattr(file, name.as_slice());
            if result == Err(Errno::ACCESS) || result == Err(Errno::PERM) {
                // Some need the right to write.
                let permissions = Mode::from_raw_mode(status.permissions & 0o777 | 0o200);
                rustix::fs::fchmod(file, permissions).during("change the permissions of", || place.path())?;
                result = rustix::fs::fremovexattr(file, name.as_slice());
            }
            removed(place, name, result)?;
            // Removing an access control list changes the permissions of the group.
            touched = true;
        }
        Ok(touched)
    }

    /// The same for a symbolic link, which is reached through `/proc` as there is no call that takes its descriptor.
    fn strip_link(&self, place: &Place<'_>, link: BorrowedFd<'_>) -> Result<()> {
        let path = path_of_descriptor(link);
        for name in self.attributes_to_remove(|buffer| rustix::fs::listxattr(&path, buffer), place)? {
            let result = rustix::fs::removexattr(&path, name.as_slice());
            removed(place, name, result)?;
        }
        Ok(())
    }

    fn attributes_to_remove(
        &self,
        list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
        place: &Place<'_>,
    ) -> Result<Vec<Vec<u8>>> {
        let mut small = [0; 256];
        let mut large = Vec::new();
        let names = match list(&mut small) {
            Ok(length) => small.get(..length),
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(Errno::RANGE) => {
                // The most that the system ever gives.
                large.resize(64 << 10, 0);
                let length = list(&mut large).during("list the attributes of", || place.path())?;
                large.get(..length)
            }
            Err(error) => return Err(error).during("list the attributes of", || place.path()),
        };
        let names = names.unwrap_or_default().split(|&byte| byte == 0);
        let ignored = |name: &[u8]| self.ignored_attributes.iter().any(|ignored| ignored == name);
        Ok(names.filter(|name| !name.is_empty() && !ignored(name)).map(<[u8]>::to_vec).collect())
    }

    /// Files of a build must be its user's.
    fn check_owner(&self, place: &Place<'_>, status: &Status) -> Result<()> {
        match &self.ownership.builder {
            Some(users) if !users.contains(&status.uid) => {
                Err(Error::ForeignOwner { path: place.path(), owner: status.uid })
            }
            _ => Ok(()),
        }
    }

    fn is_foreign(&self, status: &Status) -> bool {
        status.uid != self.ownership.uid || status.gid != self.ownership.gid
    }

    fn uid(&self) -> Uid {
        Uid::from_raw(self.ownership.uid)
    }

    fn gid(&self) -> Gid {
        Gid::from_raw(self.ownership.gid)
    }
}

fn removed(place: &Place<'_>, name: Vec<u8>, result: Result<(), Errno>) -> Result<()> {
    match result {
        Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(_) => Err(Error::StubbornAttribute { path: place.path(), name }),
    }
}

pub(crate) fn canonical_times() -> Timestamps {
    let time = Timespec { tv_sec: CANONICAL_TIME, tv_nsec: 0 };
    // Nothing looks at the time of the last access.
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps { last_access: keep, last_modification: time }
}

/// A walk that only makes things canonical.
struct MetadataOnly<'a>(&'a mut Canonicaliser);

impl Visitor for MetadataOnly<'_> {
    fn enter(&mut self, place: &Place<'_>, directory: BorrowedFd<'_>) -> Result<()> {
        self.0.directory(place, directory)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn regular(&mut self, place: &Place<'_>) -> Result<()> {
        self.0.regular(place).map(drop)
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<()> {
        self.0.symlink(place).map(drop)
    }

    fn may_grant(&self) -> bool {
        true
    }
}

/// Refuses what a build left as an output if others could have written it, or if it isn't the build user's: to be asked
/// before anything of it is changed.
///
/// # Errors
/// [`Error::Suspicious`] if so.
pub fn check_not_suspicious(
    directory: &Directory,
    name: &Component,
    builder: Option<&RangeInclusive<u32>>,
) -> Result<()> {
    let path = directory.path_of(name);
    let status = Status::at(directory.as_fd(), name.as_c_str()).during("look at", || &path)?;
    let writable = status.kind != Kind::Symlink && status.permissions & 0o022 != 0;
    let foreign = builder.is_some_and(|users| !users.contains(&status.uid));
    if writable || foreign { Err(Error::Suspicious(path)) } else { Ok(()) }
}
