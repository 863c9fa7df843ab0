//! Build users: accounts, or IDs without accounts, that run one build at a time.
//!
//! With `build-users-group` set and root as the engine's user, each build runs as its own member of that group. A lock on
//! `userpool/<uid>` says who has which, across threads, engines, and real Nix on the same machine.
//! With `auto-allocate-uids` there need be no accounts: see [`id_range`].

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kiln_sys::accounts::{group_by_name, groups_of_user, user_by_name};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::getuid;

use crate::Credentials;

mod id_range;
pub(crate) use id_range::IDS_OF_A_SLOT;
use id_range::IdRange;

/// How long what the name services said of the group is believed.
const BELIEVED: Duration = Duration::from_secs(5);

/// How soon a user that another process gave back is noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why there is no build user to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildUserError {
    /// Nobody made the group.
    #[error("the group '{0}' specified in 'build-users-group' does not exist")]
    NoGroup(String),
    /// The group is empty.
    #[error("the build users group '{0}' has no members")]
    NoMembers(String),
    /// A member is not a user.
    #[error("the user '{user}' in the group '{group}' does not exist")]
    NoUser {
        /// The member.
        user: String,
        /// The group.
        group: String,
    },
    /// The engine's own user is among them, so a build could do what the engine may.
    #[error("the Nix user should not be a member of '{0}'")]
    OwnUser(String),
    /// All are taken.
    #[error(
        "all build users are currently in use; consider creating additional users and adding them to the '{0}' group"
    )]
    AllInUse(String),
    /// All slots of IDs are taken.
    #[error("all {0} slots of user ids are currently in use; consider a larger 'id-count'")]
    AllSlotsInUse(u32),
    /// The settings name no range of IDs.
    #[error(
        "'auto-allocate-uids' cannot use the user ids of 'start-id = {start}' and 'id-count = {count}': {reason}"
    )]
    InvalidRange {
        /// The first ID.
        start: u64,
        /// How many there are.
        count: u64,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// An ID that builds would get is somebody's.
    #[error("auto-allocated UID {uid} clashes with existing user account '{user}'")]
    Clash {
        /// The ID.
        uid: u32,
        /// Whose it is.
        user: String,
    },
    /// A name service or the lock files do not work.
    #[error("cannot {action} '{subject}': {reason}")]
    System {
        /// What was being done.
        action: &'static str,
        /// With what.
        subject: String,
        /// Why it failed.
        reason: String,
    },
}

/// The members of the build users' group or the range of IDs, and the directory with their locks.
#[derive(Clone, Debug)]
pub struct BuildUsers {
    source: Source,
    pool: PathBuf,
    known: Arc<Mutex<Option<Known>>>,
    returned: Arc<Returned>,
}

/// Where build users come from.
#[derive(Clone, Debug)]
enum Source {
    /// The members of the group of this name.
    Group(String),
    Range(IdRange),
}

/// What the name services said of the group.
#[derive(Clone, Debug)]
struct Known {
    since: Instant,
    members: Arc<Members>,
}

#[derive(Debug)]
struct Members {
    gid: u32,
    users: Vec<Member>,
}

/// Says that a user has been given back within this process.
#[derive(Debug, Default)]
struct Returned {
    count: Mutex<u64>,
    changed: Condvar,
}

/// A build user that is the holder's alone until this is dropped.
#[derive(Debug)]
pub struct BuildUser {
    uid: u32,
    gid: u32,
    /// How many IDs are its own, from the user ID and the group ID on.
    ids: u32,
    supplementary_groups: Vec<u32>,
    lock: Option<OwnedFd>,
    returned: Arc<Returned>,
}

/// A member of the group.
#[derive(Debug)]
struct Member {
    name: CString,
    uid: u32,
    supplementary_groups: OnceLock<Vec<u32>>,
}

impl BuildUsers {
    /// The users of `group`, with locks in the directory `pool` (`<state>/userpool`), which is made if need be.
    pub fn new(group: &str, pool: &Path) -> Result<Self, BuildUserError> {
        Self::from_source(Source::Group(group.to_owned()), pool)
    }

    /// Users without accounts, from `count` IDs that begin with `start`, with locks in the directory `pool`
    /// (`<state>/userpool2`), which is made if need be.
    ///
    /// # Errors
    /// There are no such IDs, or the directory can't be made.
    pub fn without_accounts(start: u64, count: u64, pool: &Path) -> Result<Self, BuildUserError> {
        Self::from_source(Source::Range(IdRange::new(start, count)?), pool)
    }

    fn from_source(source: Source, pool: &Path) -> Result<Self, BuildUserError> {
        match mkdirat(CWD, pool, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(system("create directory", pool.display().to_string(), errno)),
        }
        Ok(Self { source, pool: pool.to_owned(), known: Arc::default(), returned: Arc::default() })
    }

    /// A user that nobody has; `None` if all are in use. What is known of the group is some seconds old at most, and never
    /// the reason why there is none.
    pub fn try_acquire(&self) -> Result<Option<BuildUser>, BuildUserError> {
        let group = match &self.source {
            Source::Group(group) => group,
            Source::Range(range) => {
                return Ok(range.try_acquire(&self.pool)?.map(|(uid, lock)| BuildUser {
                    uid,
                    gid: uid,
                    ids: IDS_OF_A_SLOT,
                    supplementary_groups: vec![],
                    lock: Some(lock),
                    returned: Arc::clone(&self.returned),
                }));
            }
        };
        let known = self.known().clone().filter(|known| known.since.elapsed() < BELIEVED);
        if let Some(known) = known
            && let Some(user) = self.try_acquire_among(&known.members)?
        {
            return Ok(Some(user));
        }
        let since = Instant::now();
        let members = Arc::new(members(group)?);
        *self.known() = Some(Known { since, members: Arc::clone(&members) });
        self.try_acquire_among(&members)
    }

    fn try_acquire_among(&self, members: &Members) -> Result<Option<BuildUser>, BuildUserError> {
        for member in &members.users {
            if let Some(lock) = lock_file(&self.pool.join(member.uid.to_string()))? {
                return Ok(Some(BuildUser {
                    uid: member.uid,
                    gid: members.gid,
                    ids: 1,
                    supplementary_groups: member.supplementary_groups(members.gid)?,
                    lock: Some(lock),
                    returned: Arc::clone(&self.returned),
                }));
            }
        }
        Ok(None)
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`try_acquire`](Self::try_acquire), but waits up to `patience` for one to become free. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`BuildUserError::AllInUse`] if none has.
    pub fn acquire(&self, patience: Duration) -> Result<BuildUser, BuildUserError> {
        let deadline = Instant::now().checked_add(patience);
        loop {
            let before = *self.returned.count.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(user) = self.try_acquire()? {
                return Ok(user);
            }
            let left =
                deadline.map_or(LOOK_AGAIN, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(match &self.source {
                    Source::Group(group) => BuildUserError::AllInUse(group.clone()),
                    Source::Range(range) => BuildUserError::AllSlotsInUse(range.slots()),
                });
            }
            let count = self.returned.count.lock().unwrap_or_else(PoisonError::into_inner);
            // What other processes give back makes no noise.
            drop(
                self.returned
                    .changed
                    .wait_timeout_while(count, left.min(LOOK_AGAIN), |count| *count == before),
            );
        }
    }
}

/// The members of a group, as the name services have them.
fn members(group: &str) -> Result<Members, BuildUserError> {
    let missing = || BuildUserError::NoGroup(group.to_owned());
    let name = CString::new(group).map_err(|_| missing())?;
    let entry = group_by_name(&name)
        .map_err(|errno| system("look up group", group.to_owned(), errno))?
        .ok_or_else(missing)?;
    if entry.members.is_empty() {
        return Err(BuildUserError::NoMembers(group.to_owned()));
    }
    let own = getuid().as_raw();
    let members = entry.members.into_iter().map(|name| {
        let user = user_by_name(&name)
            .map_err(|errno| system("look up user", display(&name), errno))?
            .ok_or_else(|| BuildUserError::NoUser { user: display(&name), group: group.to_owned() })?;
        if user.uid == own || user.uid == 0 {
            return Err(BuildUserError::OwnUser(group.to_owned()));
        }
        Ok(Member { name, uid: user.uid, supplementary_groups: OnceLock::new() })
    });
    Ok(Members { gid: entry.gid, users: members.collect::<Result<_, _>>()? })
}

/// Locks a file, which is made if need be; `None` if someone else has locked it.
fn lock_file(path: &Path) -> Result<Option<OwnedFd>, BuildUserError> {
    let failed = |errno| system("lock", path.display().to_string(), errno);
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(CWD, path, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

impl Member {
    fn supplementary_groups(&self, gid: u32) -> Result<Vec<u32>, BuildUserError> {
        if let Some(groups) = self.supplementary_groups.get() {
            return Ok(groups.clone());
        }
        let groups = groups_of_user(&self.name, gid)
            .map_err(|errno| system("find the groups of user", display(&self.name), errno))?;
        Ok(self.supplementary_groups.get_or_init(|| groups).clone())
    }
}

impl BuildUser {
    /// Its user ID.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The ID of the build users' group.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// How many IDs are its own: more than one only of those without accounts.
    pub fn ids(&self) -> u32 {
        self.ids
    }

    /// As a plan has them.
    pub fn credentials(&self) -> Credentials {
        Credentials::BuildUser {
            uid: self.uid,
            gid: self.gid,
            supplementary_groups: self.supplementary_groups.clone(),
        }
    }
}

impl Drop for BuildUser {
    fn drop(&mut self) {
        self.lock = None;
        let mut count = self.returned.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.wrapping_add(1);
        self.returned.changed.notify_all();
    }
}

fn display(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

fn system(action: &'static str, subject: String, errno: Errno) -> BuildUserError {
    BuildUserError::System { action, subject, reason: crate::status::describe(errno) }
}

#[cfg(test)]
mod tests;
